"""PyTorch: eager and compiled losses on whole logits, and the losses of closer-look-LLM-unlearning as its trainer computes them."""

import math

import torch
import torch.nn.functional as F

from provider import Provider, Unsupported, labels, mean_of_valid


def logits(x, inputs):
    z = F.linear(x, inputs.w)
    cap = inputs.shape.soft_cap
    return (cap * torch.tanh(z / cap) if cap else z).float()


def reference_logits(part, inputs):
    with torch.no_grad():
        return logits(inputs.xr[part.begin : part.end], inputs)


class Eager(Provider):
    name = "torch-eager"

    def nll(self, x, part, inputs):
        return F.cross_entropy(logits(x, inputs), labels(part, inputs), reduction="none")

    def nll_mean(self, x, part, inputs):
        return F.cross_entropy(logits(x, inputs), labels(part, inputs))

    def me_mean(self, x, part, inputs):
        z = logits(x, inputs)
        return F.cross_entropy(z, labels(part, inputs), label_smoothing=1.0) - math.log(inputs.shape.v)

    def kl_mean(self, x, part, inputs):
        log_p = F.log_softmax(logits(x, inputs), -1)
        log_r = F.log_softmax(reference_logits(part, inputs), -1)
        return mean_of_valid(F.kl_div(log_p, log_r, log_target=True, reduction="none").sum(-1), part, inputs)


class CloserLook(Eager):
    """Its formulas, written from their description: softmax, a floor of 1e-12, a uniform tensor, whole-vocabulary products."""

    name = "closer-look"

    def me_mean(self, x, part, inputs):
        p = F.softmax(logits(x, inputs), -1)
        uniform = torch.full_like(p, 1 / inputs.shape.v)
        divergence = F.kl_div((p + 1e-12).log(), uniform, reduction="none").sum(-1)
        return mean_of_valid(divergence, part, inputs)

    def nll(self, x, part, inputs):
        # Its get_batch_loss turns the logits round and sums per sequence.
        return F.cross_entropy(logits(x, inputs)[None].transpose(-1, -2), labels(part, inputs)[None], reduction="none")[0]


class Compiled(Provider):
    """torch.compile of the eager losses, one graph for each shape."""

    name = "torch-compile"

    def __init__(self, every_loss):
        self.every_loss = every_loss

    def prepare(self, case, inputs):
        if not self.every_loss and case.loss not in ("GD", "ME"):
            raise Unsupported("compiling takes half a minute: GD and ME alone, unless --providers names torch-compile")
        eager, parts = Eager(), inputs.parts(case.loss)
        torch._dynamo.reset()
        loss = torch.compile(lambda x: sum(eager.part(x, part, inputs) for part in parts), dynamic=False)

        def call():
            x = inputs.leaf()
            loss(x).backward()
            return x.grad

        return call


def load(options):
    return [Eager(), CloserLook(), Compiled("torch-compile" in options.providers)]
