"""KGA, Who's Harry Potter and Quark on llama-tiny: loss and LoRA gradients of one step, and greedy decoding of a mixture, in float64.

Proves: objectives that compare the trained adapter with other views of the same base, and the mixed logits u - a relu(v - u).
Run:    python tests/oracle/make_view_methods.py [--out tests/golden]     (after make_views.py, whose adapters these are)
Writes: views/methods.json              per case: the method, its options, its sequences, loss and terms; the greedy tokens of mixtures
        views/methods.safetensors       <case>/<linear>.lora_{A,B}.weight fp32 of the trained adapter, for PROBES
The trained adapter is llama-tiny/adapter ("first"), so that the policy is not the base. A sequence has role, pair, ids and answerStart;
one whose reference sees another text has it as `reference` with `map`: row t of the sequence goes with row map[t] there, and rows with -1
take no part.
"""

import json

import torch
from torch.nn.functional import kl_div, log_softmax, relu, softmax

import common
import make_lora
import make_views

PROBES = make_lora.PROBES
KGA_WEIGHT = 0.3
WHP_ALPHA = 5.0
QUARK_KL, QUARK_ENTROPY = 0.05, 0.06
GREEDY_TOKENS = 8


def policy_model(out):
    """PEFT's model with the trained adapter, in float64."""
    model = make_lora.adapter(common.load_model(out, common.UNTIED))
    return common.lift_to_float64(model)


def frozen(out, **coefficients):
    model = make_views.view(out, coefficients)

    @torch.no_grad()
    def run(ids):
        return common.logits(model, ids)

    return run


def kl(input_logits, target_logits):
    """KL(target || input) of every row, as torch's kl_div has it."""
    return kl_div(log_softmax(input_logits, -1), log_softmax(target_logits, -1), log_target=True, reduction="none").sum(-1)


def rows_of(positions, s):
    """Which logits a loss looks at."""
    return range(s["answerStart"] - 1 if positions == "answer" else 0, len(s["ids"]) - 1)


def reduce(values, reduction):
    """values: one tensor of rows for each sequence."""
    if reduction == "token_mean":
        return torch.cat(values).mean()
    return torch.stack([v.sum() if reduction == "sequence_sum" else v.mean() for v in values]).mean()


def kga(policy, views, step, positions, reduction, gap_direction):
    def gaps(role, left, right):
        found = [s for s in step if s["role"] == role]
        return reduce([kl(right(s["ids"])[rows_of(positions, s)], left(s["ids"])[rows_of(positions, s)]) for s in found], reduction)

    base, forget, new = views["base"], views["forget"], views["new"]
    gap = gaps("NEW", new, base) if gap_direction == "new_to_original" else gaps("NEW", base, new)
    align = (gaps("FORGET", forget, policy) - gap).abs()
    retain = gaps("RETAIN", base, policy)
    return align + KGA_WEIGHT * retain, {"KGA": align, "KL": retain, "gap": gap}


def mixed(base, reinforced, alpha):
    return base - alpha * relu(reinforced - base)


def whp(policy, views, step, targets):
    losses = []
    for s in step:
        z, reinforced = policy(s["ids"]), views["reinforced"](s["ids"])
        generic = views["base"](s["reference"])
        for t in (t for t, at in enumerate(s["map"]) if at >= 0):
            w = mixed(generic[s["map"][t]], reinforced[t], WHP_ALPHA)
            if targets == "soft":
                losses.append(-(softmax(w, -1) * log_softmax(z[t], -1)).sum())
            else:
                losses.append(-log_softmax(z[t], -1)[w.argmax()])
    loss = torch.stack(losses).mean()
    return loss, {"WHP": loss}


def quark(policy, views, step):
    nll, divergence, entropy = [], [], []
    for s in step:
        z, reference = policy(s["ids"]), views["base"](s["reference"])
        for t in rows_of("answer", s):
            log = log_softmax(z[t], -1)
            nll.append(-log[s["ids"][t + 1]])
            divergence.append((log.exp() * (log - log_softmax(reference[s["map"][t]], -1))).sum())
            entropy.append(-(log.exp() * log).sum())
    terms = {k: torch.stack(v).mean() for k, v in (("nll", nll), ("kl", divergence), ("entropy", entropy))}
    return terms["nll"] + QUARK_KL * terms["kl"] - QUARK_ENTROPY * terms["entropy"], terms


def new_rows(generator, vocabulary):
    rows = []
    for pair, (question, answer) in enumerate(((5, 6), (3, 9), (8, 2))):
        ids = common.random_ids(generator, vocabulary, question + answer - 1) + [common.EOS]
        rows.append({"role": "NEW", "pair": pair, "ids": ids, "answerStart": question})
    return rows


def translated_rows(generator, vocabulary):
    """Blocks of which some tokens are replaced by one, two or three others; a row that no longer counts has -1."""
    rows = []
    for pair, replaced in enumerate(({3: 2, 7: 1, 8: 0}, {2: 1, 5: 3}, {})):
        ids = common.random_ids(generator, vocabulary, 12 - pair)
        reference, at = [], []
        for t, token in enumerate(ids):
            width = replaced.get(t, None)
            if width is None:
                reference.append(token)
            else:
                reference += torch.randint(common.FIRST_ORDINARY_ID, vocabulary, (width,), generator=generator).tolist()
            at.append(len(reference) - 1)
        # What follows a replaced token is predicted from the end of its replacement; the last row predicts nothing that is known.
        at[-1] = -1
        if pair == 0:
            at[5] = -1
        rows.append({"role": "TARGET", "pair": pair, "ids": ids, "answerStart": 1, "reference": reference, "map": at})
    return rows


def pool_rows(generator, vocabulary):
    """BOS, control token, prompt, response; the reference sees all but the control token."""
    rows = []
    for pair, (question, answer) in enumerate(((4, 6), (6, 3), (2, 7))):
        ids = common.random_ids(generator, vocabulary, question + answer)
        control = 90 + pair
        map_ = [0, 0] + list(range(1, len(ids)))
        rows.append(
            {"role": "TARGET", "pair": pair, "ids": ids[:1] + [control] + ids[1:], "answerStart": question + 1, "reference": ids, "map": map_}
        )
    return rows


def cases(out):
    vocabulary = common.SHAPES[common.UNTIED]["vocab_size"]
    generator = torch.Generator().manual_seed(707)
    rows = [s for s in make_lora.step_sequences(vocabulary) if s["role"] in ("FORGET", "RETAIN")] + new_rows(generator, vocabulary)
    translated, pool = translated_rows(generator, vocabulary), pool_rows(generator, vocabulary)
    base, second, third = frozen(out), frozen(out, second=1.0), frozen(out, third=1.0)
    one, other = dict(base=base, forget=second, new=third), dict(base=base, forget=third, new=second)
    for name, positions, reduction, direction, views, adapters in (
        ("sum", "all", "sequence_sum", "new_to_original", one, {"forget": "second", "new": "third"}),
        ("below", "all", "sequence_sum", "new_to_original", dict(base=base, forget=frozen(out, first=1.0, second=0.1), new=third), {"forget": "near", "new": "third"}),
        ("mean", "answer", "token_mean", "original_to_new", other, {"forget": "third", "new": "second"}),
    ):
        options = dict(positions=positions, reduction=reduction, gap_direction=direction)
        yield f"KGA.{name}", "KGA", options, adapters, rows, lambda p, o=options, v=views: kga(p, v, rows, **o)
    for targets in ("soft", "hard"):
        views = dict(base=base, reinforced=second)
        yield f"WHP.{targets}", "WHP", dict(targets=targets), {"reinforced": "second"}, translated, lambda p, v=views, t=targets: whp(p, v, translated, t)
    yield "Quark", "Quark", {}, {}, pool, lambda p: quark(p, dict(base=base), pool)


@torch.no_grad()
def greedy(base, reinforced, alpha, ids):
    tokens, margins = [], []
    for _ in range(GREEDY_TOKENS):
        best = mixed(base(ids + tokens)[-1], reinforced(ids + tokens)[-1], alpha).topk(2)
        tokens.append(best.indices[0].item())
        margins.append((best.values[0] - best.values[1]).item())
    assert min(margins) > 1e-3, "a tie"
    return tokens


def make(out):
    model = policy_model(out)
    parameters = make_lora.trainable(model)
    results, gradients = [], {}
    for name, method, options, adapters, rows, loss in cases(out):
        total, terms = loss(lambda ids: common.logits(model, ids))
        found = dict(zip(parameters, torch.autograd.grad(total, parameters.values())))
        norm = torch.stack([g.norm() for g in found.values()]).norm().item()
        assert norm > 1e-3, f"{name}: the gradient vanishes"
        gradients.update({f"{name}/{k}": g for k, g in found.items() if k.startswith(PROBES)})
        values = {k: v.item() for k, v in terms.items()}
        results.append(dict(name=name, method=method, options=options, views=adapters, sequences=rows, loss=total.item(), terms=values))
        print(f"{name:12s} loss {total.item():10.6f}  gradient norm {norm:.4f}  {values}")
    base, second = frozen(out), frozen(out, second=1.0)
    prompts = common.sequences(common.UNTIED)
    decoded = [dict(alpha=a, prompt=p, tokens=greedy(base, second, a, p)) for a in (0.0, 1.0, 5.0) for p in prompts]
    origin = common.provenance(__file__, model=common.UNTIED)
    common.save_json(
        out / make_views.FOLDER / "methods.json",
        dict(provenance=origin, kgaWeight=KGA_WEIGHT, whpAlpha=WHP_ALPHA, cases=results, greedy=dict(reinforced="second", decoded=decoded)),
    )
    common.save_tensors(out / make_views.FOLDER / "methods.safetensors", gradients, origin)


if __name__ == "__main__":
    common.prepare()
    make(common.arguments(__doc__).out)
