"""Liger-Kernel: fused linear cross-entropy with both of its chunk rules, chunked preference losses, and both of its divergences."""

import math

from cases import BETA
from provider import Provider, Unsupported, labels, need_source, need_triton


class Liger(Provider):
    """Its kernel of the whole loss; `wide` is the later rule, whose chunks are sixteen times as many rows."""

    def __init__(self, wide=False):
        from liger_kernel.ops import fused_linear_cross_entropy as module
        from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss

        self.name = "liger-wide" if wide else "liger"
        self.module, self.loss, self.wide = module, LigerFusedLinearCrossEntropyLoss, wide

    def prepare(self, case, inputs):
        call = super().prepare(case, inputs)
        if not self.wide:
            return call

        def with_rule():
            triton = self.module.triton
            self.module.triton = _WideRule(triton, inputs.shape)
            try:
                return call()
            finally:
                self.module.triton = triton

        return with_rule

    def run(self, x, part, inputs, **options):
        cap = inputs.shape.soft_cap or None
        return self.loss(softcap=cap, **options)(inputs.w, x, labels(part, inputs))

    def nll(self, x, part, inputs):
        return self.run(x, part, inputs, reduction="none")

    def nll_mean(self, x, part, inputs):
        return self.run(x, part, inputs)

    def me_mean(self, x, part, inputs):
        return self.run(x, part, inputs, label_smoothing=1.0) - math.log(inputs.shape.v)

    def kl_mean(self, x, part, inputs):
        if self.wide:
            raise Unsupported("the rule is cross-entropy's")
        if inputs.shape.soft_cap:
            raise Unsupported("its divergence has no soft cap")
        from liger_kernel.transformers.fused_linear_jsd import LigerFusedLinearJSD

        return LigerFusedLinearJSD(jsd_beta=0.0)(x, inputs.w, inputs.xr[part.begin : part.end], inputs.w, labels(part, inputs))


class _WideRule:
    """Stands in for the module's triton: what it takes V / H chunks from is divided by 16, as later versions do."""

    def __init__(self, triton, shape):
        self.triton, self.shape = triton, shape

    def cdiv(self, a, b):
        found = self.triton.cdiv(a, b)
        return self.triton.cdiv(found, 16) if (a, b) == (self.shape.v, self.shape.d) else found

    def __getattr__(self, name):
        return getattr(self.triton, name)


class LigerChunked(Provider):
    """Its chunked losses: DPO over pairs, JSD with beta 0."""

    name = "liger-chunked"

    def kl_mean(self, x, part, inputs):
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

        if inputs.shape.soft_cap:
            raise Unsupported("its divergence has no soft cap")
        loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, chunk_size=1024)
        return loss(x, inputs.w, inputs.xr[part.begin : part.end], inputs.w, labels(part, inputs))

    def sequences(self, x, part, inputs):
        from liger_kernel.chunked_loss import LigerFusedLinearDPOLoss

        if part.kind != "dpo":
            raise Unsupported("of the preference losses it has DPO alone")
        count = part.last - part.first
        if len(x) % count or inputs.shape.soft_cap:
            raise Unsupported("sequences of one length, no soft cap")
        shaped = lambda t: t.view(count, len(x) // count, *t.shape[1:]).roll(count // 2, 0)
        # It takes the answer that is wanted first, and computes the reference's numbers itself.
        loss = LigerFusedLinearDPOLoss(beta=BETA, use_ref_model=True, compute_nll_loss=False, average_log_prob=False, chunk_size=max(1, count // 8))
        xr = inputs.xr[part.begin : part.end]
        found = loss(inputs.w, shaped(x), shaped(labels(part, inputs)), None, shaped(xr), inputs.w, None)[0]
        return 2 / BETA * found


def load(options):
    need_source("liger", "src")
    need_triton(options.device)
    return [Liger(), Liger(wide=True), LigerChunked()]
