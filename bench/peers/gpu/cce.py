"""Apple's Cut Cross-Entropy: its filtered and its exact gradient, single rows, and maximum entropy from its log-sum-exp."""

import math

from provider import Provider, Unsupported, labels, mean_of_valid, need_source, need_triton


class Cce(Provider):
    def __init__(self, implementation):
        from cut_cross_entropy import linear_cross_entropy

        self.name, self.implementation, self.function = implementation, implementation, linear_cross_entropy
        self.mean = (None, None)  # of a weight, and the weight

    def run(self, x, part, inputs, **options):
        cap = inputs.shape.soft_cap or None
        return self.function(x, inputs.w, labels(part, inputs), softcap=cap, impl=self.implementation, **options)

    def nll(self, x, part, inputs):
        return self.run(x, part, inputs, reduction="none")

    def nll_mean(self, x, part, inputs):
        return self.run(x, part, inputs)

    def me_mean(self, x, part, inputs):
        if self.implementation == "cce":
            raise Unsupported("its filter drops the gradients of near-uniform rows; cce_exact is timed")
        if inputs.shape.soft_cap:
            raise Unsupported("the mean of capped logits is no product with the mean row")
        if self.mean[1] is not inputs.w:
            self.mean = (inputs.w.float().mean(0), inputs.w)
        _, lse = self.run(x, part, inputs, reduction="none", return_lse=True)
        return mean_of_valid(lse - x.float() @ self.mean[0], part, inputs) - math.log(inputs.shape.v)


def load(options):
    need_source("cce")
    need_triton(options.device)
    return [Cce("cce"), Cce("cce_exact")]
