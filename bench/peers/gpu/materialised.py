"""flash-attention's cross-entropy kernel on whole logits, and efficient_cross_entropy."""

import importlib.util
import math

import torch
import torch.nn.functional as F

from provider import Provider, Unsupported, labels, mean_of_valid, need_source, need_triton


class Flash(Provider):
    name = "flash-attn-ce"

    def __init__(self, function):
        self.function = function

    def run(self, x, part, inputs, smoothing=0.0):
        z = F.linear(x, inputs.w)
        cap = inputs.shape.soft_cap
        if cap:
            z = cap * torch.tanh(z / cap)
        return self.function(z, labels(part, inputs), label_smoothing=smoothing, inplace_backward=True)[0]

    def nll(self, x, part, inputs):
        return self.run(x, part, inputs)

    def me_mean(self, x, part, inputs):
        return mean_of_valid(self.run(x, part, inputs, smoothing=1.0), part, inputs) - math.log(inputs.shape.v)


class Efficient(Provider):
    """Its backward wants the weight's gradient, too: the work of training the head is in its time."""

    name = "efficient-ce-trained"

    def __init__(self, function):
        self.function = function
        self.module, self.weight = None, None

    def nll_mean(self, x, part, inputs):
        if inputs.shape.soft_cap:
            raise Unsupported("no soft cap")
        if self.weight is not inputs.w:
            with torch.device("meta"):
                module = self.function(inputs.shape.d, inputs.shape.v, n_loop_iters=max(1, inputs.shape.n // 1024))
            module.proj_weight = torch.nn.Parameter(inputs.w.detach())
            self.module, self.weight = module, inputs.w
        self.module.zero_grad(set_to_none=True)
        return self.module(x, labels(part, inputs))

    def nll(self, x, part, inputs):
        raise Unsupported("mean alone")


def load(options):
    flash = need_source("flash-attention", "flash_attn/ops/triton") / "cross_entropy.py"
    need_triton(options.device)
    spec = importlib.util.spec_from_file_location("flash_cross_entropy", flash)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [Flash(module.cross_entropy_loss)]


def load_efficient(options):
    path = need_source("efficient_cross_entropy") / "modules.py"
    need_triton(options.device)
    spec = importlib.util.spec_from_file_location("efficient_modules", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [Efficient(module.FusedProjectionPlusCrossEntropyLoss)]
