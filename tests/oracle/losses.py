"""The unlearning losses in plain torch, one function per term. Nothing to run here.

Formulas: "A Closer Look at Machine Unlearning for LLMs" (arXiv 2410.08109) and its code, with three reductions that are never merged:
  token mean     GA, GD, IDK      sum of nll over all answer tokens of the step / their number
  sequence sum   NPO, DPO, AP     sum of nll per sequence, link function, mean over sequences (pairs)
  position mean  ME, KL           mean over positions, of the answer or of question and answer
Two departures: ME has no 1e-12 inside its logarithm (it kills the gradient of confident positions), and no term ever looks at padding.
Positions are shifted: position t in 0..T-2 predicts token t+1; `answer` positions are t >= answerStart-1.

A step is a list of sequences {role, pair, ids, answerStart}; `policy` and `reference` give a sequence's logits [T, V].
"""

import math

import torch
import torch.nn.functional as F

FORGET, RETAIN, FORGET_IDK, RETAIN_IDK = "FORGET", "RETAIN", "FORGET_IDK", "RETAIN_IDK"


class Step:
    """The sequences of one step with the logits of the policy (with gradient) and of the reference (without)."""

    def __init__(self, sequences, policy, reference):
        self.sequences = sequences
        self.z = [policy(s["ids"]) for s in sequences]
        with torch.no_grad():
            self.z_reference = [reference(s["ids"]) for s in sequences]

    def of(self, role):
        """Indices of the role's sequences, in the order of their pairs."""
        chosen = [i for i, s in enumerate(self.sequences) if s["role"] == role]
        return sorted(chosen, key=lambda i: self.sequences[i]["pair"])

    def answer_nll(self, i, reference=False):
        """[answer tokens] of sequence i."""
        s, z = self.sequences[i], (self.z_reference if reference else self.z)[i]
        labels = torch.tensor(s["ids"][s["answerStart"] :])
        return F.cross_entropy(z[s["answerStart"] - 1 : -1], labels, reduction="none")

    def log_probabilities(self, i, positions, reference=False):
        """[positions, V] of sequence i; positions: answer | all."""
        first = self.sequences[i]["answerStart"] - 1 if positions == "answer" else 0
        return F.log_softmax((self.z_reference if reference else self.z)[i][first:-1], -1)

    def token_mean(self, role):
        return torch.cat([self.answer_nll(i) for i in self.of(role)]).mean()

    def sequence_nll(self, role, reference=False):
        """[pairs]: nll summed over each answer."""
        return torch.stack([self.answer_nll(i, reference).sum() for i in self.of(role)])

    def position_mean(self, role, positions, divergence):
        """divergence(policy, reference) of log-probabilities [positions, V] -> [positions], averaged over all positions of the role."""
        return torch.cat(
            [divergence(self.log_probabilities(i, positions), self.log_probabilities(i, positions, reference=True)) for i in self.of(role)]
        ).mean()


def gradient_ascent(step, beta):
    return -step.token_mean(FORGET)


def npo(step, beta):
    return -2 / beta * F.logsigmoid(beta * (step.sequence_nll(FORGET) - step.sequence_nll(FORGET, reference=True))).mean()


def dpo(step, beta):
    wins = step.sequence_nll(FORGET_IDK, reference=True) - step.sequence_nll(FORGET_IDK)
    loses = step.sequence_nll(FORGET, reference=True) - step.sequence_nll(FORGET)
    return -2 / beta * F.logsigmoid(beta * (wins - loses)).mean()


def idk(step, beta):
    return step.token_mean(FORGET_IDK)


def uniform_kl(log_p, _):
    """KL(U || p)"""
    return -log_p.mean(-1) - math.log(log_p.shape[-1])


def kl_uniform(log_p, _):
    """KL(p || U)"""
    return (log_p.exp() * log_p).sum(-1) + math.log(log_p.shape[-1])


def reference_kl(log_p, log_reference):
    """KL(reference || p)"""
    return (log_reference.exp() * (log_reference - log_p)).sum(-1)


def gradient_descent(step, beta):
    return step.token_mean(RETAIN)


def answer_preservation(step, beta):
    return -F.logsigmoid(beta * (step.sequence_nll(RETAIN_IDK) - step.sequence_nll(RETAIN))).mean() / beta


def over_positions(role, positions, divergence):
    return lambda step, beta: step.position_mean(role, positions, divergence)


FORGET_LOSSES = {
    "none": None,
    "GA": gradient_ascent,
    "NPO": npo,
    "DPO": dpo,
    "IDK": idk,
    "ME.answer": over_positions(FORGET, "answer", uniform_kl),
    "ME.all": over_positions(FORGET, "all", uniform_kl),
    "ME_REVERSE.answer": over_positions(FORGET, "answer", kl_uniform),
    "ME_REVERSE.all": over_positions(FORGET, "all", kl_uniform),
}

RETAIN_LOSSES = {
    "none": None,
    "GD": gradient_descent,
    "KL.answer": over_positions(RETAIN, "answer", reference_kl),
    "KL.all": over_positions(RETAIN, "all", reference_kl),
    "AP": answer_preservation,
}
