"""What a provider of head losses is, and how one that cannot be had is told."""

import importlib.util
import os
import sys
from pathlib import Path

import torch

from cases import NEEDS_PAIRS
from exact import part_loss

SOURCES = Path(__file__).resolve().parents[1] / "sources"


class Absent(Exception):
    """Why a peer cannot be had here."""


class Unsupported(Exception):
    """Why a peer has no such loss, or not at such a shape."""


def need_source(folder, inside=""):
    """Puts a peer's sources, fetched by bench/peers/fetch, where they are imported from."""
    path = SOURCES / folder / inside
    if not path.is_dir():
        raise Absent(f"no bench/peers/sources/{folder}: bench/peers/fetch brings it")
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))
    return path


def need_triton(device):
    if importlib.util.find_spec("triton") is None:
        raise Absent("no triton in this Python")
    if torch.device(device).type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise Absent("its kernels need a CUDA device")


class Provider:
    """A peer: methods give losses of row ranges for autograd; what is left out raises Unsupported.

    nll: [rows] negative log-likelihoods, 0 where ignored. nll_mean, me_mean, kl_mean: means over the rows that count. pairs: a whole part of
    sequences, where the peer has its own.
    """

    name = "?"
    kind = "peer"

    def nll(self, x, part, inputs):
        raise Unsupported("no losses of single rows")

    def nll_mean(self, x, part, inputs):
        return self.nll(x, part, inputs).sum() / inputs.valid[part.begin : part.end].sum()

    def me_mean(self, x, part, inputs):
        raise Unsupported("no maximum entropy")

    def kl_mean(self, x, part, inputs):
        raise Unsupported("no divergence from a reference")

    def sequences(self, x, part, inputs):
        return part_loss(part, inputs, self.nll(x, part, inputs))

    def part(self, x, part, inputs):
        rows = x[part.begin : part.end] if (part.begin, part.end) != (0, len(x)) else x
        means = {"nll": self.nll_mean, "me": self.me_mean, "kl": self.kl_mean}
        return means.get(part.kind, self.sequences)(rows, part, inputs)

    def prepare(self, case, inputs):
        """A call that gives dh: loss and backward, as a trainer makes them."""
        parts = inputs.parts(case.loss)
        for part in parts:
            if part.kind in NEEDS_PAIRS and (part.last - part.first) % 2:
                raise Unsupported("an odd number of sequences has no pairs")

        def call():
            x = inputs.leaf()
            loss = sum(self.part(x, part, inputs) for part in parts)
            loss.backward()
            return x.grad

        return call


def labels(part, inputs):
    return inputs.y[part.begin : part.end]


def mean_of_valid(per_row, part, inputs):
    keep = inputs.valid[part.begin : part.end]
    return torch.where(keep, per_row, 0.0).sum() / keep.sum()
