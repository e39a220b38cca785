"""A PEFT adapter on llama-tiny, its logits, and loss and gradients of one unlearning step under every loss, in float64.

Proves: PEFT adapters are read and scaled as PEFT does; every forget x retain loss and its gradient down to A and B. A and B are random
        and non-zero, so the policy differs from the reference (the same model with the adapter off) and no gradient is trivially zero.
Run:    python tests/oracle/make_lora.py [--out tests/golden]     (after make_models.py and make_forward.py)
Writes: llama-tiny/adapter/                    adapter_config.json, adapter_model.safetensors by PEFT (r=4, alpha=8, all seven linears)
        llama-tiny/lora_forward.safetensors    logits fp32 [sum T, V], nll fp32 [sum (T-1)] of forward.safetensors' ids, adapter on
        llama-tiny/lora_step.json              sequences (role, pair, ids, answerStart, policyNll, referenceNll: summed over the answer)
                                               and per combination: beta, coefficients, loss, terms, gradientNorm (over all A and B)
        llama-tiny/lora_gradients.safetensors  <combination>/<linear>.lora_{A,B}.weight fp32, as PEFT shapes them: A [r, in], B [out, r]
Combinations are named <forget loss>+<retain loss>; ME, ME_REVERSE and KL carry their positions (answer | all). COMPLETE combinations keep
the gradients of all A and B; the others those of PROBES, to stay small.
"""

import json

import torch
from peft import LoraConfig, get_peft_model

import common
import losses

RANK, ALPHA = 4, 8
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
COMPLETE = {"NPO+KL.all", "DPO+KL.answer", "IDK+AP", "ME.all+GD", "ME_REVERSE.answer+none"}
PROBES = ("model.layers.0.self_attn.q_proj.", "model.layers.1.self_attn.v_proj.", "model.layers.2.mlp.down_proj.")

# (question, answer, refusal) tokens; the question counts BOS, answers count EOS. One-token answers (EOS alone) occur in practice.
FORGET_LENGTHS = ((4, 9, 3), (7, 5, 6), (3, 1, 4))
RETAIN_LENGTHS = ((6, 7, 5), (2, 12, 2), (9, 3, 7))


def adapter(model):
    """PEFT's model with random A and B, so large that the adapter changes the logits visibly."""
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=LINEARS, task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(303)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                scale = parameter.shape[1] ** -0.5 if "lora_A" in name else 0.15
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def save_adapter(model, directory):
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    # PEFT keeps a set, whose order changes from run to run, and the place the base was loaded from.
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = common.UNTIED
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def step_sequences(vocabulary):
    generator = torch.Generator().manual_seed(404)

    def answer(length):
        return torch.randint(common.FIRST_ORDINARY_ID, vocabulary, (length - 1,), generator=generator).tolist() + [common.EOS]

    rows = []
    for role, lengths in ((losses.FORGET, FORGET_LENGTHS), (losses.RETAIN, RETAIN_LENGTHS)):
        for pair, (question, own, refusal) in enumerate(lengths):
            prompt = common.random_ids(generator, vocabulary, question)
            for kind, length in ((role, own), (role + "_IDK", refusal)):
                rows.append({"role": kind, "pair": pair, "ids": prompt + answer(length), "answerStart": question})
    return rows


def combinations():
    """(name, forget, retain, beta, forget coefficient, retain coefficient)"""
    grid = [(f, r) for f in losses.FORGET_LOSSES for r in losses.RETAIN_LOSSES if r != "AP" and (f, r) != ("none", "none")]
    grid += [("IDK", "AP"), ("ME.answer", "AP"), ("ME.all", "AP"), ("none", "AP")]
    plain = [(f"{f}+{r}", f, r, 0.1, 0.1 if f.startswith("ME") else 1.0, 1.0) for f, r in grid]
    weighted = [("NPO", "KL.all"), ("DPO", "AP")]
    return plain + [(f"{f}+{r};beta=0.5;0.7;1.3", f, r, 0.5, 0.7, 1.3) for f, r in weighted]


def trainable(model):
    """LoRA parameters under their linear's Hugging Face path."""
    named = {k: p for k, p in model.named_parameters() if "lora_" in k}
    return {k.removeprefix("base_model.model.").replace(".default", ""): p for k, p in named.items()}


def evaluate(model, rows):
    def policy(ids):
        return common.logits(model, ids)

    def reference(ids):
        with model.disable_adapter():
            return common.logits(model, ids)

    step = losses.Step(rows, policy, reference)
    described = [
        dict(s, policyNll=step.answer_nll(i).sum().item(), referenceNll=step.answer_nll(i, reference=True).sum().item()) for i, s in enumerate(rows)
    ]
    parameters = trainable(model)
    results, gradients = [], {}
    for name, forget, retain, beta, forget_coefficient, retain_coefficient in combinations():
        forget_loss, retain_loss = losses.FORGET_LOSSES[forget], losses.RETAIN_LOSSES[retain]
        terms, total = {}, 0
        if forget_loss:
            value = forget_loss(step, beta)
            terms[forget], total = value.item(), total + forget_coefficient * value
        if retain_loss:
            value = retain_loss(step, beta)
            terms[retain], total = value.item(), total + retain_coefficient * value
        gradient = dict(zip(parameters, torch.autograd.grad(total, parameters.values(), retain_graph=True)))
        norm = torch.stack([g.norm() for g in gradient.values()]).norm().item()
        assert norm > 1e-3 and all(g.abs().max() > 0 for g in gradient.values()), f"{name}: a gradient vanishes"
        gradients.update({f"{name}/{k}": g for k, g in gradient.items() if name in COMPLETE or k.startswith(PROBES)})
        results.append(
            dict(name=name, forget=forget, retain=retain, beta=beta, forgetCoefficient=forget_coefficient, retainCoefficient=retain_coefficient)
            | dict(loss=total.item(), terms=terms, gradientNorm=norm, complete=name in COMPLETE)
        )
    return described, results, gradients


def make(out):
    directory = out / common.UNTIED
    model = adapter(common.load_model(out, common.UNTIED))
    save_adapter(model, directory / "adapter")
    common.lift_to_float64(model)
    origin = common.provenance(__file__, model=common.UNTIED)

    ids = common.sequences(common.UNTIED)
    with torch.no_grad():
        adapted = [common.logits(model, row) for row in ids]
    nll = torch.cat([common.shifted_nll(z, row) for z, row in zip(adapted, ids)])
    common.save_tensors(directory / "lora_forward.safetensors", {"logits": torch.cat(adapted), "nll": nll}, origin)

    rows = step_sequences(common.SHAPES[common.UNTIED]["vocab_size"])
    described, results, gradients = evaluate(model, rows)
    common.save_tensors(directory / "lora_gradients.safetensors", gradients, origin)
    common.save_json(directory / "lora_step.json", {"provenance": origin, "sequences": described, "combinations": results})
    for r in results:
        print(f"{r['name']:28s} loss {r['loss']:12.6f}  gradient norm {r['gradientNorm']:.4f}  {r['terms']}")


if __name__ == "__main__":
    common.prepare()
    make(common.arguments(__doc__).out)
