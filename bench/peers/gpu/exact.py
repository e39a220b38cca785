"""What the losses are, in double precision: gradients of sampled rows, against which everyone is held before being timed.

A row's gradient is c (p - target) W. The coefficients c are written out here; the peers get theirs from autograd, so that the two check
each other.
"""

import math

import torch

from cases import BETA, SIMNPO_BETA

SAMPLED_ROWS = 256
CHUNK = 256


class Exact:
    def __init__(self, inputs):
        self.inputs = inputs
        self.w = inputs.w.double()
        generator = torch.Generator().manual_seed(7)
        valid = inputs.valid.nonzero().flatten().cpu()
        order = torch.randperm(len(valid), generator=generator)[:SAMPLED_ROWS]
        self.sample = valid[order].sort().values.to(inputs.device)
        self.nll = self.losses(inputs.x)
        whole = torch.zeros(inputs.sequences(), dtype=torch.float64, device=inputs.device)
        inputs.reference_nll = whole.index_add(0, inputs.segment, self.losses(inputs.xr))

    def losses(self, h):
        """[n] negative log-likelihoods, 0 where ignored."""
        nll = torch.zeros(len(h), dtype=torch.float64, device=h.device)
        for at in range(0, len(h), CHUNK):
            z = self.logits(h[at : at + CHUNK])
            y = self.inputs.y[at : at + CHUNK]
            picked = z.gather(1, y.clamp(min=0)[:, None])[:, 0]
            nll[at : at + CHUNK] = torch.where(y >= 0, z.logsumexp(1) - picked, 0.0)
        return nll

    def logits(self, h):
        z = h.double() @ self.w.T
        cap = self.inputs.shape.soft_cap
        return cap * torch.tanh(z / cap) if cap else z

    def gradient(self, part):
        """(rows, gradient of the part's loss at them): those of the sample that lie in the part."""
        rows = self.sample[(self.sample >= part.begin) & (self.sample < part.end)]
        x, y = self.inputs.x[rows], self.inputs.y[rows]
        z = self.logits(x)
        p = z.softmax(1)
        if part.kind == "me":
            dz = p - 1 / self.inputs.shape.v
        elif part.kind == "kl":
            dz = p - self.logits(self.inputs.xr[rows]).softmax(1)
        else:
            dz = p - torch.nn.functional.one_hot(y, self.inputs.shape.v)
        cap = self.inputs.shape.soft_cap
        if cap:
            dz = dz * (1 - (z / cap) ** 2)
        nll = self.inputs.sums(self.nll[part.begin : part.end], part)
        c = coefficients(part, self.inputs, nll)[rows - part.begin]
        return rows, c[:, None] * (dz @ self.w)


def coefficients(part, inputs, nll):
    """[rows of the part] fp64: d loss / d (the row's own loss); nll: each sequence's sum."""
    count = len(nll)
    valid = inputs.valid[part.begin : part.end]
    if part.kind in ("nll", "me", "kl"):
        return valid.double() / valid.sum()
    reference = inputs.reference_nll[part.first : part.last]
    sigmoid = torch.sigmoid
    if part.kind == "npo":
        of_sequence = -2 / count * sigmoid(-BETA * (nll - reference))
    elif part.kind == "simnpo":
        tokens = inputs.counts(part)
        of_sequence = -2 / count / tokens * sigmoid(-SIMNPO_BETA * nll / tokens)
    else:
        half = count // 2
        own, refusal = nll[:half], nll[half:]
        if part.kind == "dpo":
            margin = (own - reference[:half]) - (refusal - reference[half:])
            of_pair = 2 / half * sigmoid(-BETA * margin)
            of_sequence = torch.cat([-of_pair, of_pair])
        else:
            of_pair = 1 / half * sigmoid(-BETA * (refusal - own))
            of_sequence = torch.cat([of_pair, -of_pair])
    return of_sequence[inputs.segment[part.begin : part.end] - part.first] * valid


def part_loss(part, inputs, nll):
    """The loss of a part that is made of sequences, from [rows of the part] nll, for autograd."""
    sums = inputs.sums(nll.float() if nll.dtype != torch.float64 else nll, part)
    count = len(sums)
    reference = inputs.reference_nll[part.first : part.last].to(sums.dtype)
    log_sigmoid = torch.nn.functional.logsigmoid
    if part.kind == "npo":
        return -2 / BETA * log_sigmoid(BETA * (sums - reference)).mean()
    if part.kind == "simnpo":
        return -2 / SIMNPO_BETA * log_sigmoid(SIMNPO_BETA * sums / inputs.counts(part).to(sums.dtype)).mean()
    half = count // 2
    own, refusal = sums[:half], sums[half:]
    if part.kind == "dpo":
        margin = (own - reference[:half]) - (refusal - reference[half:])
        return -2 / BETA * log_sigmoid(BETA * margin).mean()
    return -1 / BETA * log_sigmoid(BETA * (refusal - own)).mean()


def error(exact, parts, gradient):
    """The worst part's |g - exact| / |exact| over the sampled rows, and its kind."""
    worst, of = 0.0, None
    for part in parts:
        rows, want = exact.gradient(part)
        found = ((gradient[rows].double() - want).norm() / want.norm()).item()
        if not math.isfinite(found):
            return math.inf, part.kind
        if found >= worst:
            worst, of = found, part.kind
    return worst, of
