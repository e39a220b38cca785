"""Loss and gradients of a training step whose adapters drop inputs, in float64, with Lethe's masks computed again and injected into PEFT.

Proves: which inputs are dropped (role, pair and position of a token, module, step and seed decide; Philox4x32-10), that an adapter sees
        (mask o x) / (1 - p), and that the backward pass goes through the same mask; the reference model and the base drop nothing.
Run:    python tests/oracle/make_dropout.py [--out tests/golden]     (after make_lora.py)
Writes: dropout/step.json               dropout, seed, step, keys of modules and tokens, and per combination: loss, terms, gradientNorm
        dropout/gradients.safetensors   <combination>/<linear>.lora_{A,B}.weight fp32
The sequences are those of llama-tiny/lora_step.json, the adapter is llama-tiny/adapter; combinations as make_lora.py names them.
"""

import hashlib

import numpy
import torch
from peft import PeftModel

import common
import losses
import make_lora

FOLDER = "dropout"
DROPOUT, SEED, STEP = 0.25, 20260704, 3
COMBINATIONS = {"NPO+KL.all", "ME.all+GD", "IDK+AP"}
STREAM = 0x64726F706F7574
MASK64 = 2**64 - 1


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def bits(seed, *keys):
    """SplitMix64's finaliser, chained over the keys; negative numbers are taken modulo 2^64."""
    h = mix((seed + 0x9E3779B97F4A7C15) & MASK64)
    for key in keys:
        h = mix(((h ^ (key & MASK64)) + 0x9E3779B97F4A7C15) & MASK64)
    return h


def java_hash(text):
    """String.hashCode, a signed 32-bit number."""
    h = 0
    for c in text:
        h = (31 * h + ord(c)) & 0xFFFFFFFF
    return h - 2**32 if h >= 2**31 else h


def row_key(row, position):
    return bits(SEED, STREAM, STEP, java_hash(row["role"]), row["pair"], position)


def module_key(module):
    return int.from_bytes(hashlib.sha256(module.encode()).digest()[:8], "big")


def philox(key, low, high):
    """Four words [n, 4] for the counters {low, high}, each of 64 bits."""
    low, high = numpy.asarray(low, numpy.uint64), numpy.asarray(high, numpy.uint64)
    word = numpy.uint64(0xFFFFFFFF)
    x = [low & word, low >> numpy.uint64(32), high & word, high >> numpy.uint64(32)]
    k = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        a, b = x[0] * numpy.uint64(0xD2511F53), x[2] * numpy.uint64(0xCD9E8D57)
        x = [(b >> numpy.uint64(32)) ^ x[1] ^ numpy.uint64(k[0]), b & word, (a >> numpy.uint64(32)) ^ x[3] ^ numpy.uint64(k[1]), a & word]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return numpy.stack(x, -1)


def kept(key, row_keys, columns, p=DROPOUT):
    """[tokens, columns]: which inputs stay."""
    groups = (columns + 3) // 4
    low = numpy.repeat(numpy.array(row_keys, numpy.uint64), groups)
    high = numpy.tile(numpy.arange(groups, dtype=numpy.uint64), len(row_keys))
    words = philox(key, low, high).reshape(len(row_keys), 4 * groups)[:, :columns]
    return words >= numpy.uint64(int(numpy.ceil(p * 2.0**32)))


class Masked(torch.nn.Module):
    """In the place of PEFT's dropout."""

    def __init__(self, module):
        super().__init__()
        self.key, self.row_keys = module_key(module), None

    def forward(self, x):
        mask = torch.from_numpy(kept(self.key, self.row_keys, x.shape[-1]))
        return torch.where(mask, x, 0) / (1 - DROPOUT)


def inject(model):
    masks = []
    for name, module in model.base_model.model.named_modules():
        if getattr(module, "lora_A", None):
            module.lora_dropout["default"] = Masked(name)
            masks.append(module.lora_dropout["default"])
    return masks


def make(out):
    assert philox(0, [0], [0]).tolist() == [[0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]], "Philox4x32-10's known answer"
    model = PeftModel.from_pretrained(common.load_model(out, common.UNTIED), out / common.UNTIED / "adapter", is_trainable=True).eval()
    masks = inject(model)
    common.lift_to_float64(model)
    rows = make_lora.step_sequences(common.SHAPES[common.UNTIED]["vocab_size"])
    known = {tuple(row["ids"]): row for row in rows}
    assert len(known) == len(rows)

    def policy(ids):
        for mask in masks:
            mask.row_keys = [row_key(known[tuple(ids)], t) for t in range(len(ids))]
        return common.logits(model, ids)

    def reference(ids):
        with model.disable_adapter():
            return common.logits(model, ids)

    step = losses.Step(rows, policy, reference)
    parameters = make_lora.trainable(model)
    results, gradients = [], {}
    for name, forget, retain, beta, forget_coefficient, retain_coefficient in make_lora.combinations():
        if name not in COMBINATIONS:
            continue
        forgets, retains = losses.FORGET_LOSSES[forget](step, beta), losses.RETAIN_LOSSES[retain](step, beta)
        total = forget_coefficient * forgets + retain_coefficient * retains
        gradient = dict(zip(parameters, torch.autograd.grad(total, parameters.values(), retain_graph=True)))
        gradients.update({f"{name}/{k}": g for k, g in gradient.items()})
        norm = torch.stack([g.norm() for g in gradient.values()]).norm().item()
        results.append(
            dict(name=name, forget=forget, retain=retain, beta=beta, forgetCoefficient=forget_coefficient, retainCoefficient=retain_coefficient)
            | dict(loss=total.item(), terms={forget: forgets.item(), retain: retains.item()}, gradientNorm=norm)
        )
    assert len(results) == len(COMBINATIONS)
    module = "model.layers.1.mlp.down_proj"
    keys = [row_key(rows[1], t) for t in range(4)]
    shown = dict(
        module=module,
        moduleKey=f"{module_key(module):016x}",
        role=rows[1]["role"],
        pair=rows[1]["pair"],
        rowKeys=[f"{key:016x}" for key in keys],
        dropped=["".join(".x"[int(not k)] for k in row) for row in kept(module_key(module), keys, 11)],
    )
    origin = common.provenance(__file__, model=common.UNTIED)
    (out / FOLDER).mkdir(exist_ok=True)
    common.save_tensors(out / FOLDER / "gradients.safetensors", gradients, origin)
    described = dict(provenance=origin, dropout=DROPOUT, seed=SEED, step=STEP, keys=shown, combinations=results)
    common.save_json(out / FOLDER / "step.json", described)
    for r in results:
        print(f"{r['name']:28s} loss {r['loss']:12.6f}  gradient norm {r['gradientNorm']:.4f}")


if __name__ == "__main__":
    common.prepare()
    make(common.arguments(__doc__).out)
