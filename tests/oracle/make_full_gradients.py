"""Gradients with respect to every parameter, and three AdamW steps, by torch autograd in float64.

Proves: the whole backward pass (a tied head's gradient is the sum of both its uses), clipping, AdamW with decay on matrices only.
Run:    python tests/oracle/make_full_gradients.py [--out tests/golden]     (after make_models.py)
Writes: <model>/full_gradients.safetensors
          gradient/<parameter>  fp32, before the first step and before clipping; every parameter, named as in model.safetensors
          after/<parameter>     fp32, after the three steps; llama-tiny keeps only AFTER_KEPT to stay small
        <model>/full_gradients.json
          sequences, losses[3], gradientNorms[3] (before clipping), optimizer settings
Loss:   nll summed over the shifted positions of the three sequences of forward.safetensors, divided by their count sum (T-1).
"""

import torch

import common

STEPS = 3
OPTIMIZER = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
MATRIX_DECAY = 0.01
MAX_NORM = 1.0
AFTER_KEPT = ("model.embed_tokens.", "model.layers.1.", "model.norm.", "lm_head.")


def loss_of(model, rows):
    return torch.cat([common.shifted_nll(common.logits(model, ids), ids) for ids in rows]).mean()


def make(out):
    for name in common.SHAPES:
        rows = common.sequences(name)
        model = common.lift_to_float64(common.load_model(out, name))
        named = dict(model.named_parameters())
        groups = [
            {"params": [p for p in named.values() if p.dim() >= 2], "weight_decay": MATRIX_DECAY},
            {"params": [p for p in named.values() if p.dim() < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, foreach=False, **OPTIMIZER)
        tensors, losses, norms = {}, [], []
        for step in range(STEPS):
            optimizer.zero_grad()
            loss = loss_of(model, rows)
            loss.backward()
            if step == 0:
                tensors.update({f"gradient/{k}": p.grad.clone() for k, p in named.items()})
            norms.append(torch.nn.utils.clip_grad_norm_(named.values(), MAX_NORM).item())
            losses.append(loss.item())
            optimizer.step()
        kept = AFTER_KEPT if name == common.UNTIED else ("",)
        tensors.update({f"after/{k}": p for k, p in named.items() if k.startswith(kept)})
        origin = common.provenance(__file__, model=name)
        common.save_tensors(out / name / "full_gradients.safetensors", tensors, origin)
        optimizer_settings = dict(lr=OPTIMIZER["lr"], beta1=OPTIMIZER["betas"][0], beta2=OPTIMIZER["betas"][1], eps=OPTIMIZER["eps"])
        optimizer_settings.update(weightDecayOfMatrices=MATRIX_DECAY, weightDecayOfVectors=0.0, maxGradientNorm=MAX_NORM, clipEps=1e-6)
        common.save_json(
            out / name / "full_gradients.json",
            {"provenance": origin, "sequences": rows, "optimizer": optimizer_settings, "losses": losses, "gradientNorms": norms},
        )
        print(f"{name}: losses {losses}, gradient norms {norms}")


if __name__ == "__main__":
    common.prepare()
    make(common.arguments(__doc__).out)
