"""Loss and LoRA gradients of one step as published code computes them, quirks included, on padded batches in float64.

Proves: the parity options reproduce closer-look (sail-sg/closer-look-LLM-unlearning b622294: data_module.py, losses.py) and open-unlearning
        (locuslab/open-unlearning d3d7cf9: collators.py, trainer/utils.py) with flash-attention-2's treatment of what the attention mask leaves
        out: it neither is seen nor sees, its attention output is zero, and everything keeps its place in the padded row.
Run:    python tests/oracle/make_parity.py [--out tests/golden]     (after make_lora.py, whose adapter it loads)
Writes: llama-tiny/parity.json                    sequences (role, pair, ids, answerStart) and per case: options, loss, gradientNorm
        llama-tiny/parity_gradients.safetensors   <case>/<linear>.lora_{A,B}.weight fp32
Every case averages the losses of micro-batches of ROWS forget and ROWS retain rows. Both codes pad with the end token.

closer-look:      ids without the end token, padded to LENGTH; the mask leaves padding out; the first pad is the label of the last token.
open-unlearning:  ids with the end token, padded to the longest of the micro-batch; the mask leaves out whatever equals the pad token, so the
                  end tokens inside a prompt (Llama 3's <|eot_id|>) and at its end, too.
"""

import torch
import torch.nn.functional as F
from peft import PeftModel

import common

ROWS, LENGTH, IGNORED, BETA = 2, 20, -100, 0.1
UNDIAL_BETA = 10.0
# The published 1e-12, which changes nothing on a model this unsure, and one that does.
EPSILONS = {"ME+GD": 1e-12, "ME+GD;epsilon": 1e-2}

# (question, own answer, refusal) tokens; questions count BOS, answers count EOS.
FORGET_LENGTHS = ((7, 6, 3), (4, 9, 5), (5, 1, 4), (8, 11, 2))
RETAIN_LENGTHS = ((6, 8, 4), (9, 4, 3), (3, 12, 6), (5, 3, 2))


def step_sequences(vocabulary):
    """Four forget and four retain rows, each also with a refusal; questions of seven tokens and more hold an end token."""
    generator = torch.Generator().manual_seed(505)

    def answer(length):
        return torch.randint(common.FIRST_ORDINARY_ID, vocabulary, (length - 1,), generator=generator).tolist() + [common.EOS]

    rows = []
    for role, lengths in (("FORGET", FORGET_LENGTHS), ("RETAIN", RETAIN_LENGTHS)):
        for pair, (question, own, refusal) in enumerate(lengths):
            prompt = common.random_ids(generator, vocabulary, question)
            if question >= 7:
                prompt[3] = common.EOS
            for kind, length in ((role, own), (role + "_IDK", refusal)):
                rows.append({"role": kind, "pair": pair, "ids": prompt + answer(length), "answerStart": question})
    return rows


class Batch:
    """Padded rows of one role: ids, labels and attention mask, each [B, L]."""

    def __init__(self, ids, labels, mask):
        self.ids, self.labels, self.mask = torch.tensor(ids), torch.tensor(labels), torch.tensor(mask)


def closer_look_batch(rows, masked=True):
    ids, labels, mask = [], [], []
    for row in rows:
        body = row["ids"][:-1]
        pads = LENGTH - len(body)
        ids.append(body + [common.EOS] * pads)
        mask.append([1] * len(body) + [0] * pads)
        own = [IGNORED] * row["answerStart"] + body[row["answerStart"] :] + [common.EOS] + [IGNORED] * (pads - 1)
        labels.append(own if masked else ids[-1])
    return Batch(ids, labels, mask)


def open_unlearning_batch(rows):
    longest = max(len(row["ids"]) for row in rows)
    ids = [row["ids"] + [common.EOS] * (longest - len(row["ids"])) for row in rows]
    labels = [[IGNORED] * r["answerStart"] + r["ids"][r["answerStart"] :] + [IGNORED] * (longest - len(r["ids"])) for r in rows]
    return Batch(ids, labels, [[int(t != common.EOS) for t in row] for row in ids])


class Run:
    """The policy and its reference, with attention outputs zeroed where the mask is 0."""

    def __init__(self, model):
        self.model, self.mask = model, None
        for name, module in model.named_modules():
            if name.endswith("self_attn.o_proj"):
                module.register_forward_pre_hook(lambda _, inputs: (inputs[0] * self.mask[:, :, None],) + inputs[1:])

    def policy(self, batch):
        self.mask = batch.mask
        return self.model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits

    def reference(self, batch):
        with torch.no_grad(), self.model.disable_adapter():
            return self.policy(batch)


def sequence_nll(z, labels):
    """[B]: nll summed over each row's labels."""
    return F.cross_entropy(z[:, :-1].transpose(1, 2), labels[:, 1:], ignore_index=IGNORED, reduction="none").sum(1)


def token_mean(z, labels):
    return F.cross_entropy(z[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


def max_entropy(z, labels, epsilon):
    """mean over labels of -(1/V) sum_v log(p_v + epsilon) - log V"""
    p = F.softmax(z[:, :-1], -1)
    value = -(p + epsilon).log().mean(-1) - torch.tensor(float(z.shape[-1]), dtype=z.dtype).log()
    return value[labels[:, 1:] != IGNORED].mean()


def kl_everywhere(z, z_reference):
    """mean over all B L positions of KL(reference || p)"""
    log_p, log_q = F.log_softmax(z, -1), F.log_softmax(z_reference, -1)
    return (log_q.exp() * (log_q - log_p)).sum(-1).mean()


def undial(z, z_reference, labels):
    """mean over all B (L - 1) positions of KL(q || p), q = softmax(reference - beta at the label); a label of -100 counts from V.

    The code's cross-entropy is this and the entropy of q, which is no function of what trains.
    """
    shifted = labels[:, 1:]
    index = torch.where(shifted < 0, shifted + z.shape[-1], shifted)
    target = F.softmax(z_reference[:, :-1] - UNDIAL_BETA * F.one_hot(index, z.shape[-1]), -1)
    return (target * (target.log() - F.log_softmax(z[:, :-1], -1))).sum(-1).mean()


def npo(run, batch):
    margin = sequence_nll(run.policy(batch), batch.labels) - sequence_nll(run.reference(batch), batch.labels)
    return -2 / BETA * F.logsigmoid(BETA * margin).mean()


def closer_look(name, run, of):
    padded = closer_look_batch
    retain = padded(of("RETAIN"))
    if name in EPSILONS:
        forget = padded(of("FORGET"), masked=False)
        return 0.1 * max_entropy(run.policy(forget), forget.labels, EPSILONS[name]) + token_mean(run.policy(retain), retain.labels)
    if name == "NPO+KL":
        return npo(run, padded(of("FORGET"))) + kl_everywhere(run.policy(retain), run.reference(retain))
    refused, refused_retain = padded(of("FORGET_IDK")), padded(of("RETAIN_IDK"))
    margin = sequence_nll(run.policy(refused_retain), refused_retain.labels) - sequence_nll(run.policy(retain), retain.labels)
    return token_mean(run.policy(refused), refused.labels) - F.logsigmoid(BETA * margin).mean() / BETA


def open_unlearning(name, run, of):
    forget, retain = open_unlearning_batch(of("FORGET")), open_unlearning_batch(of("RETAIN"))
    if name == "NPO+KL":
        return npo(run, forget) + kl_everywhere(run.policy(retain), run.reference(retain))
    keep = token_mean(run.policy(retain), retain.labels)
    if name == "UNDIAL+GD":
        return undial(run.policy(forget), run.reference(forget), forget.labels) + keep
    return keep - token_mean(run.policy(forget), forget.labels)


CASES = [("closer_look", closer_look, n) for n in ("ME+GD", "ME+GD;epsilon", "NPO+KL", "IDK+AP")]
CASES += [("open_unlearning", open_unlearning, n) for n in ("GA+GD", "NPO+KL", "UNDIAL+GD")]


def make(out):
    directory = out / common.UNTIED
    base = common.load_model(out, common.UNTIED)
    model = PeftModel.from_pretrained(base, directory / "adapter", is_trainable=True).eval()
    common.lift_to_float64(model)
    run = Run(model)
    rows = step_sequences(common.SHAPES[common.UNTIED]["vocab_size"])
    named = {k: p for k, p in model.named_parameters() if "lora_" in k}
    parameters = {k.removeprefix("base_model.model.").replace(".default", ""): p for k, p in named.items()}
    pairs, results, gradients = len(FORGET_LENGTHS), [], {}
    for source, compute, name in CASES:
        losses = []
        for first in range(0, pairs, ROWS):
            losses.append(compute(name, run, lambda role: [r for r in rows if r["role"] == role and first <= r["pair"] < first + ROWS]))
        loss = torch.stack(losses).mean()
        found = dict(zip(parameters, torch.autograd.grad(loss, parameters.values())))
        norm = torch.stack([g.norm() for g in found.values()]).norm().item()
        assert norm > 1e-3, name
        case = f"{source}/{name}"
        gradients.update({f"{case}/{k}": g for k, g in found.items()})
        results.append({"case": case, "rows": ROWS, "length": LENGTH if source == "closer_look" else 0, "loss": loss.item(), "gradientNorm": norm})
        print(f"{case:28s} loss {loss.item():12.6f}  gradient norm {norm:.4f}")
    origin = common.provenance(__file__, model=common.UNTIED)
    common.save_json(directory / "parity.json", {"provenance": origin, "sequences": rows, "cases": results})
    common.save_tensors(directory / "parity_gradients.safetensors", gradients, origin)


if __name__ == "__main__":
    common.prepare()
    make(common.arguments(__doc__).out)
