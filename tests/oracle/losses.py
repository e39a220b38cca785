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


# ---- Losses of other papers and codes, each written on full logits as its source has it. Options are a dictionary by Lethe's names. ----

MISMATCH, ALTERNATE = "FORGET_MISMATCH", "FORGET_ALTERNATE"


def labelled(step, i, positions):
    """Logits [rows, V] and labels [rows] of sequence i that `positions` names: answer | all | spans."""
    s = step.sequences[i]
    rows = {
        "answer": range(s["answerStart"] - 1, len(s["ids"]) - 1),
        "all": range(len(s["ids"]) - 1),
        "spans": [t for a, b in s.get("spans", []) for t in range(a - 1, b - 1)],
    }[positions]
    rows = list(rows)
    return step.z[i][rows], torch.tensor([s["ids"][t + 1] for t in rows], dtype=torch.long)


def nlls(step, role, positions, temperature=1.0):
    """[sequences] of [rows]: nll per token."""
    out = []
    for i in step.of(role):
        z, y = labelled(step, i, positions)
        out.append(F.cross_entropy(z / temperature, y, reduction="none"))
    return out


def reduced(rows, reduction):
    if reduction == "token_mean":
        return torch.cat(rows).mean()
    return torch.stack([r.mean() if reduction == "sequence_mean" else r.sum() for r in rows]).mean()


def kl_batchmean(step, role, positions):
    """torch's kl_div(..., 'batchmean', log_target=True) on [rows, V]; every: the last position too."""
    log_p, log_r = [], []
    for i in step.of(role):
        s = step.sequences[i]
        first = s["answerStart"] - 1 if positions == "answer" else 0
        last = len(s["ids"]) if positions == "every" else len(s["ids"]) - 1
        log_p.append(F.log_softmax(step.z[i][first:last], -1))
        log_r.append(F.log_softmax(step.z_reference[i][first:last], -1))
    return F.kl_div(torch.cat(log_p), torch.cat(log_r), reduction="batchmean", log_target=True)


def cross_entropy_to_reference(step, role):
    """llm_unlearn's compute_kl: -sum_v p_ref log p, mean over all positions; without its 1e-12."""
    terms = [-(F.softmax(step.z_reference[i], -1) * F.log_softmax(step.z[i], -1)).sum(-1) for i in step.of(role)]
    return torch.cat(terms).mean()


def ceu(step, o):
    terms = []
    for i in step.of(FORGET):
        z, y = labelled(step, i, "answer")
        z, y = z[o["skip"] :], y[o["skip"] :]
        target = F.softmax(z.detach().clone().scatter_(-1, y[:, None], float("-inf")), -1)
        terms.append(F.cross_entropy(z, target, reduction="none"))
    return torch.cat(terms).mean()


def undial(step, o):
    terms = []
    for i in step.of(FORGET):
        s = step.sequences[i]
        first = s["answerStart"] - 1 if o["positions"] == "answer" else 0
        labels = torch.tensor(s["ids"][first + 1 :])
        teacher = step.z_reference[i][first:-1]
        mask = torch.zeros_like(teacher).scatter_(-1, labels[:, None], 1.0)
        soft = F.softmax(teacher - mask * o["beta"], -1)
        terms.append(F.cross_entropy(step.z[i][first:-1], soft, reduction="none"))
    return torch.cat(terms).mean()


def pdu(step, o):
    """Value and retain loss; the multiplier is the caller's."""
    terms = []
    for i in step.of(FORGET):
        z = step.z[i]
        mask = torch.arange(len(z)) >= step.sequences[i]["answerStart"]
        terms.append(((z.max(dim=-1)[0] - z.mean(dim=-1)) ** 2)[mask])
    return torch.cat(terms).mean(), reduced(nlls(step, RETAIN, "answer"), "token_mean") - o["eps"]


class Pdu:
    """open-unlearning's PDU with one micro-batch a step."""

    def __init__(self, o):
        self.o, self.alpha, self.step = o, o["alpha"], 0

    def __call__(self, step, _):
        forget, excess = pdu(step, self.o)
        loss = forget + self.alpha * excess
        # One step an epoch: an update is allowed once `warmup_epochs` of them are over.
        if self.step >= self.o["warmup_epochs"]:
            self.alpha = max(0, self.alpha + self.o["dual_step"] * excess.item())
        self.step += 1
        return loss


def me_epsilon(step, o):
    """closer-look's me_loss: kl_div(log(p + eps), 1/V)."""
    terms = []
    for i in step.of(FORGET):
        p = F.softmax(step.z[i][:-1], -1)
        uniform = torch.full_like(p, 1.0 / p.shape[-1])
        terms.append(F.kl_div((p + o["epsilon"]).log(), uniform, reduction="none").sum(-1))
    return torch.cat(terms).mean()


def ascent(step, o):
    return -reduced(nlls(step, FORGET, o["positions"]), o["reduction"])


def descent(step, o):
    return reduced(nlls(step, RETAIN, o["positions"]), o["reduction"])


def graddiff(step, o):
    forget = -reduced(nlls(step, FORGET, "answer"), "token_mean")
    retain = reduced(nlls(step, RETAIN, "answer"), "token_mean") if o["retain"] == "gd" else kl_batchmean(step, RETAIN, o["kl_positions"])
    return forget + o["alpha"] * retain


def simnpo(step, o):
    rows = nlls(step, FORGET, "answer")
    mean = torch.stack([r.sum() / len(r) for r in rows]) - o["delta"]
    return -F.logsigmoid(o["beta"] * mean).mean() * 2 / o["beta"]


def wga(step, o):
    nll = torch.cat(nlls(step, FORGET, "answer"))
    weight = ((-nll).exp().detach()) ** o["beta"]
    return -(weight * nll).mean()


def satimp(step, o):
    nll = torch.cat(nlls(step, FORGET, "answer"))
    weight = ((-nll).exp().detach()) ** o["beta1"] * (1 - (-nll).exp().detach()) ** o["beta2"]
    return -(weight * nll).mean()


def log1mp(step, o):
    terms = []
    for i in step.of(FORGET):
        z, y = labelled(step, i, "answer")
        everything = torch.logsumexp(z, -1)
        log_p = z.gather(-1, y[:, None])[:, 0] - everything
        others = torch.logsumexp(z.scatter(-1, y[:, None], -1e10), -1)
        terms.append(torch.where(log_p < o["threshold"], torch.zeros_like(log_p), others - everything))
    return -torch.cat(terms).sum() / sum(len(t) for t in terms)


def kto(step, o):
    log_ratio = step.sequence_nll(FORGET, reference=True) - step.sequence_nll(FORGET)
    baseline = (step.sequence_nll(FORGET_IDK, reference=True) - step.sequence_nll(FORGET_IDK)).detach().mean()
    x = baseline - o["beta"] * log_ratio
    return 1.0 - (F.sigmoid(x) if o["link"] == "sigmoid" else F.logsigmoid(x)).mean() * 2 / o["beta"]


def altpo(step, o):
    wins = step.sequence_nll(ALTERNATE, reference=True) - step.sequence_nll(ALTERNATE)
    loses = step.sequence_nll(FORGET, reference=True) - step.sequence_nll(FORGET)
    return -2 / o["beta"] * F.logsigmoid(o["beta"] * (wins - loses)).mean()


def llmu(step, o):
    forget = -reduced(nlls(step, FORGET, "answer"), o["reduction"])
    mismatch = reduced(nlls(step, MISMATCH, "answer"), o["reduction"])
    normal = kl_batchmean(step, RETAIN, o["kl_positions"])
    if o["cross_entropy"]:
        normal = cross_entropy_to_reference(step, RETAIN)
    return o["forget_weight"] * forget + o["mismatch_weight"] * mismatch + o["normal_weight"] * normal


def ga_temp(step, o):
    return -torch.cat(nlls(step, FORGET, "answer", o["temperature"])).mean()


def ga_ls(step, o):
    kept = []
    for r in nlls(step, FORGET, "answer"):
        many = int((torch.tensor(float(len(r)), dtype=torch.float32) * o["keep"]).int())
        kept.append(r[torch.sort(r, stable=True).indices[:many]])
    return -torch.cat(kept).sum() / sum(len(k) for k in kept)


class DistillKL(torch.nn.Module):
    """KL of softened predictions [rows, V] times T^2, as SCRUB's code has it for a batch of classifications."""

    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, student, teacher):
        log_p = F.log_softmax(student / self.temperature, dim=1)
        r = F.softmax(teacher / self.temperature, dim=1)
        return F.kl_div(log_p, r, reduction="sum") * self.temperature**2 / student.shape[0]


def scrub(step, o):
    """Max and min step summed."""
    distill = DistillKL(o["temperature"])

    def divergence(role):
        z, r = [], []
        for i in step.of(role):
            first = step.sequences[i]["answerStart"] - 1 if o["positions"] == "answer" else 0
            z.append(step.z[i][first:-1])
            r.append(step.z_reference[i][first:-1])
        return distill(torch.cat(z), torch.cat(r))

    min_step = o["alpha"] * divergence(RETAIN) + o["gamma"] * reduced(nlls(step, RETAIN, o["positions"]), "token_mean")
    return min_step - (o["forget_weight"] * divergence(FORGET) if o["forget_weight"] else 0)


def kl_retain(step, o):
    return kl_batchmean(step, RETAIN, o["positions"])


PUBLISHED = {
    "GA": ascent,
    "GD": descent,
    "KL": kl_retain,
    "GradDiff": graddiff,
    "SimNPO": simnpo,
    "WGA": wga,
    "SatImp": satimp,
    "log1mp": log1mp,
    "CE-U": ceu,
    "UNDIAL": undial,
    "ME": me_epsilon,
    "KTO": kto,
    "AltPO": altpo,
    "LLMU": llmu,
    "GA_temp": ga_temp,
    "GA_LS": ga_ls,
    "SCRUB": scrub,
    "Jang": lambda step, o: ascent(step, {"positions": "all", "reduction": "token_mean"}),
    "SeUL": lambda step, o: ascent(step, {"positions": "spans", "reduction": o["reduction"]}),
}
