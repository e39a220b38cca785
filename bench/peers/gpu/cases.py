"""What is compared: shapes, losses, and inputs that are made once and given to everyone."""

import math
from dataclasses import dataclass

import torch

IGNORED = -100
BETA = 0.1
SIMNPO_BETA = 2.5
REFERENCE_SHIFT = 0.17


@dataclass(frozen=True)
class Shape:
    name: str
    n: int
    d: int
    v: int
    soft_cap: float = 0.0


# Llama-2-7B, Llama-3-8B, Llama-3.2-1B, a small batch, Qwen2.5-7B, Phi-1.5's, a ragged number of rows, Gemma-2-2B; a TOFU step.
SHAPES = {
    s.name: s
    for s in (
        Shape("S1", 4096, 4096, 32000),
        Shape("S2", 8192, 4096, 128256),
        Shape("S3", 8192, 2048, 128256),
        Shape("S4", 2048, 4096, 128256),
        Shape("S5", 8192, 3584, 152064),
        Shape("S6", 8192, 2048, 50304),
        Shape("S7", 1000, 4096, 128256),
        Shape("S8", 8192, 2304, 256000, 30.0),
        Shape("tofu", 400, 4096, 32000),
        # For tests: a vocabulary that divides by nothing, rows that divide by the sequences.
        Shape("tiny", 64, 32, 307),
        Shape("tiny-capped", 48, 32, 307, 5.0),
    )
}
# Each loss: kinds and the share of the sequences that each takes, in order.
LOSSES = {
    "GD": ("nll",),
    "ME": ("me",),
    "NPO": ("npo",),
    "SimNPO": ("simnpo",),
    "DPO-IDK": ("dpo",),
    "AP": ("ap",),
    "KL": ("kl",),
    "NPO+GD": ("npo", "nll"),
    "NPO+KL": ("npo", "kl"),
    "ME+GD": ("me", "nll"),
    "ME+AP": ("me", "ap"),
}
NEEDS_PAIRS = {"dpo", "ap"}


@dataclass(frozen=True)
class Case:
    shape: Shape
    loss: str
    data: str = "peaky"
    valid: float = 1.0

    def name(self):
        return f"{self.shape.name}/{self.loss}/{self.data}/{self.valid:g}"


@dataclass
class Part:
    """A kind of loss over the sequences [first, last), which are the rows [begin, end)."""

    kind: str
    first: int
    last: int
    begin: int
    end: int


class Inputs:
    """Hidden states of the policy and, behind them in one tensor, of the reference; weight, labels, sequences. All fixed by a seed.

    peaky: a state points at its label's row of the weight, so that the label's probability is about a half. flat: states so short
    that all logits are near 0. valid: the share of the rows that a loss looks at; the others' labels are IGNORED.
    """

    def __init__(self, shape, data, valid, device, dtype, seed=1):
        self.shape, self.data, self.valid_share, self.device = shape, data, valid, torch.device(device)
        n, d, v = shape.n, shape.d, shape.v
        generator = torch.Generator(self.device).manual_seed(seed)
        normal = lambda *size: torch.randn(*size, generator=generator, device=self.device, dtype=torch.float32)
        deviation = 0.02 if d >= 1024 else 1 / math.sqrt(d)
        self.w = torch.empty(v, d, device=self.device, dtype=dtype)
        for at in range(0, v, 16384):
            self.w[at : at + 16384] = deviation * normal(min(16384, v - at), d)
        labels = torch.randint(v, (n,), generator=generator, device=self.device)
        # z_y = a |w_y|^2 + noise; the others' sum is v times the mean of exp(z).
        h = normal(n, d) * (0.5 if data == "peaky" else 0.05)
        if data == "peaky":
            h += self.w[labels].float() * (math.log(v) / (d * deviation**2))
        # The reference's logits differ by REFERENCE_SHIFT, so its divergence is half of that squared.
        self.h2 = torch.cat([h, h + REFERENCE_SHIFT / (deviation * math.sqrt(d)) * normal(n, d)]).to(dtype)
        keep = torch.ones(n, dtype=torch.bool, device=self.device)
        if valid < 1:
            keep = torch.rand(n, generator=generator, device=self.device) < valid
            # Every sequence keeps a row.
            starts = [s * n // self.sequences() for s in range(self.sequences())]
            keep[torch.tensor(starts, device=self.device)] = True
        self.y = torch.where(keep, labels, IGNORED)
        self.valid = self.y != IGNORED
        self.segment = torch.tensor([i * self.sequences() // n for i in range(n)], device=self.device)
        self.reference_nll = None  # [sequences] fp64: set with the exact values

    def sequences(self):
        return 32 if self.shape.n >= 256 else 8

    @property
    def x(self):
        return self.h2[: self.shape.n]

    @property
    def xr(self):
        return self.h2[self.shape.n :]

    def leaf(self):
        return self.x.detach().requires_grad_()

    def parts(self, loss):
        kinds = LOSSES[loss]
        bounds = [i * self.sequences() // len(kinds) for i in range(len(kinds) + 1)]
        row = lambda s: -(-s * self.shape.n // self.sequences())
        return [Part(k, a, b, row(a), row(b)) for k, a, b in zip(kinds, bounds, bounds[1:])]

    def sums(self, per_row, part):
        """[sequences of the part]: its rows summed by sequence."""
        out = torch.zeros(part.last - part.first, dtype=per_row.dtype, device=per_row.device)
        return out.index_add(0, self.segment[part.begin : part.end] - part.first, per_row)

    def counts(self, part):
        return self.sums(self.valid[part.begin : part.end].double(), part)
