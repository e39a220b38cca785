"""Every published loss on the adapter of make_lora.py: value, gradients, and where 20 AdamW steps lead, in float64.

Proves: each loss of losses.PUBLISHED, its gradient down to A and B, and the training it leads to. A and B are random and non-zero, so the
        model differs from its reference; lengths are unequal, and one forget answer is a single token.
Run:    python tests/oracle/make_methods.py [--out tests/golden]     (after make_lora.py, whose adapter it reads)
Writes: methods/methods.json             sequences (role, pair, ids, answerStart, spans) and per case: name, forget, retain (losses),
                                         forgetOptions, retainOptions, loss, gradientNorm, moved
        methods/gradients.safetensors    <case>/<linear>.lora_{A,B}.weight fp32 of PROBES, gradients before the first step
        methods/movement.safetensors     <case>/<linear>.lora_{A,B}.weight fp32 of PROBES, parameters after 20 steps minus before
AdamW as torch has it: lr LEARNING_RATE, betas 0.9 and 0.999, eps 1e-8, weight decay 0.01, no clipping, the same batch every step.
"""

import json

import torch
from safetensors.torch import load_file

import common
import losses
import make_lora

FOLDER = "methods"
LEARNING_RATE = 1e-3
STEPS = 20
PROBES = ("model.layers.0.self_attn.q_proj.", "model.layers.1.self_attn.v_proj.", "model.layers.2.mlp.down_proj.")
MISMATCH_LENGTHS, ALTERNATE_LENGTHS = (5, 2, 8), (6, 4, 3)
KL_EVERY = {"kl_positions": "every"}

# (case, forget, its options, retain, its options); the weights are 1.
CASES = [
    ("GA-token_mean", "GA", {"positions": "answer", "reduction": "token_mean"}, "none", {}),
    ("GA-sequence_mean", "GA", {"positions": "answer", "reduction": "sequence_mean"}, "none", {}),
    ("GA-sequence_sum", "GA", {"positions": "answer", "reduction": "sequence_sum"}, "none", {}),
    ("GD-sequence_sum", "none", {}, "GD", {"positions": "answer", "reduction": "sequence_sum"}),
    ("KL-every", "none", {}, "KL", {"positions": "every"}),
    ("GradDiff-gd", "GradDiff", {"retain": "gd", "alpha": 2.0, "kl_positions": "all"}, "none", {}),
    ("GradDiff-kl", "GradDiff", {"retain": "kl", "alpha": 1.0, "kl_positions": "every"}, "none", {}),
    ("SimNPO", "SimNPO", {"beta": 0.5, "delta": 0.0}, "none", {}),
    ("SimNPO-delta", "SimNPO", {"beta": 2.5, "delta": 5.5}, "none", {}),
    ("WGA", "WGA", {"beta": 1.0}, "none", {}),
    ("SatImp", "SatImp", {"beta1": 5.0, "beta2": 1.0}, "none", {}),
    ("log1mp", "log1mp", {"threshold": -5.0}, "none", {}),
    ("CE-U", "CE-U", {"skip": 1}, "none", {}),
    ("CE-U-all", "CE-U", {"skip": 0}, "none", {}),
    ("UNDIAL", "UNDIAL", {"beta": 10.0, "positions": "answer"}, "none", {}),
    ("UNDIAL-all", "UNDIAL", {"beta": 3.0, "positions": "all"}, "none", {}),
    ("PDU", "PDU", {"alpha": 2.0, "eps": 0.3, "dual_step": 0.5, "warmup_epochs": 3}, "none", {}),
    ("ME-epsilon", "ME", {"epsilon": 1e-3}, "none", {}),
    ("ME-closer-look", "ME", {"epsilon": 1e-12}, "none", {}),
    ("KTO-sigmoid", "KTO", {"beta": 0.1, "link": "sigmoid"}, "none", {}),
    ("KTO-logsigmoid", "KTO", {"beta": 0.1, "link": "logsigmoid"}, "none", {}),
    ("AltPO", "AltPO", {"beta": 0.1}, "none", {}),
    ("LLMU", "LLMU", {"forget_weight": 0.5, "mismatch_weight": 1.0, "normal_weight": 1.0, "reduction": "sequence_mean", "cross_entropy": True} | KL_EVERY, "none", {}),
    ("LLMU-closer-look", "LLMU", {"forget_weight": 1.0, "mismatch_weight": 1.0, "normal_weight": 1.0, "reduction": "token_mean", "cross_entropy": False} | KL_EVERY, "none", {}),
    ("GA_temp+KL", "GA_temp", {"temperature": 2.0}, "KL", {"positions": "every"}),
    ("GA_LS", "GA_LS", {"keep": 0.8}, "none", {}),
    ("Jang", "Jang", {}, "none", {}),
    ("SCRUB", "SCRUB", {"temperature": 4.0, "forget_weight": 1.0, "alpha": 0.5, "gamma": 0.75, "positions": "all"}, "none", {}),
    ("SCRUB-answer", "SCRUB", {"temperature": 2.5, "forget_weight": 0.5, "alpha": 2.0, "gamma": 1.0, "positions": "answer"}, "none", {}),
    ("SCRUB-min", "SCRUB", {"temperature": 4.0, "forget_weight": 0.0, "alpha": 0.5, "gamma": 1.0, "positions": "all"}, "none", {}),
    ("SeUL", "SeUL", {"reduction": "token_mean"}, "none", {}),
]


def step_sequences(vocabulary):
    """make_lora's, with other answers to the forget questions, and marked spans in the forget answers."""
    rows = make_lora.step_sequences(vocabulary)
    generator = torch.Generator().manual_seed(505)
    more = []
    for row in rows:
        if row["role"] == losses.FORGET:
            prompt = row["ids"][: row["answerStart"]]
            for role, lengths in ((losses.MISMATCH, MISMATCH_LENGTHS), (losses.ALTERNATE, ALTERNATE_LENGTHS)):
                length = lengths[row["pair"]]
                answer = torch.randint(common.FIRST_ORDINARY_ID, vocabulary, (length - 1,), generator=generator).tolist() + [common.EOS]
                more.append({"role": role, "pair": row["pair"], "ids": prompt + answer, "answerStart": row["answerStart"]})
            start, end = row["answerStart"], len(row["ids"])
            row["spans"] = [[start + 1, start + 3], [end - 2, end]] if end - start > 4 else []
    return rows + more


def objective(model, rows, case, published):
    def reference(ids):
        with model.disable_adapter():
            return common.logits(model, ids)

    step = losses.Step(rows, lambda ids: common.logits(model, ids), reference)
    _, forget, forget_options, retain, retain_options = case
    total = 0
    if forget != "none":
        total = total + published[forget](step, forget_options)
    if retain != "none":
        total = total + published[retain](step, retain_options)
    return total


def make(out):
    directory = out / FOLDER
    directory.mkdir(parents=True, exist_ok=True)
    model = make_lora.adapter(common.load_model(out, common.UNTIED))
    stored = load_file(out / common.UNTIED / "adapter" / "adapter_model.safetensors")
    common.lift_to_float64(model)
    parameters = make_lora.trainable(model)
    start = {name: stored[f"base_model.model.{name}"].to(torch.float64) for name in parameters}
    rows = step_sequences(common.SHAPES[common.UNTIED]["vocab_size"])
    results, gradients, movement = [], {}, {}
    for case in CASES:
        name = case[0]
        with torch.no_grad():
            for key, parameter in parameters.items():
                parameter.copy_(start[key])
        optimizer = torch.optim.AdamW(parameters.values(), lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
        published = losses.PUBLISHED | {"PDU": losses.Pdu(case[2]) if case[1] == "PDU" else None}
        for index in range(STEPS):
            optimizer.zero_grad()
            loss = objective(model, rows, case, published)
            loss.backward()
            if index == 0:
                first = loss.item()
                norm = torch.stack([p.grad.norm() for p in parameters.values()]).norm().item()
                assert norm > 1e-6 and all(p.grad.abs().max() > 0 for p in parameters.values()), f"{name}: a gradient vanishes"
                gradients.update({f"{name}/{k}": p.grad.clone() for k, p in parameters.items() if k.startswith(PROBES)})
            optimizer.step()
        moved = {k: p.detach() - start[k] for k, p in parameters.items()}
        movement.update({f"{name}/{k}": d for k, d in moved.items() if k.startswith(PROBES)})
        distance = torch.stack([d.norm() for d in moved.values()]).norm().item()
        results.append(
            dict(name=name, forget=case[1], retain=case[3], forgetOptions=case[2], retainOptions=case[4])
            | dict(loss=first, gradientNorm=norm, moved=distance, lastLoss=loss.item())
        )
        print(f"{name:24s} loss {first:12.6f} -> {loss.item():12.6f}  gradient norm {norm:.4f}  moved {distance:.4f}")
    origin = common.provenance(__file__, model=common.UNTIED)
    common.save_tensors(directory / "gradients.safetensors", gradients, origin)
    common.save_tensors(directory / "movement.safetensors", movement, origin)
    training = dict(learningRate=LEARNING_RATE, steps=STEPS, weightDecay=0.01)
    common.save_json(directory / "methods.json", {"provenance": origin, "training": training, "sequences": rows, "cases": results})


if __name__ == "__main__":
    common.prepare()
    make(common.arguments(__doc__).out)
