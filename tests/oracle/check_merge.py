"""Does `lethe merge` write what PEFT's merge_and_unload computes?

Proves: for llama-tiny and a model of every family, every tensor of the model with its adapter merged equals PEFT's merge in fp32, and transformers
        loads the directory and computes the same logits.
Run:    python tests/oracle/check_merge.py [--lethe ./lethe]     (needs tests/golden; builds Lethe when that is out of date)
Prints one line a model: the largest relative error of a tensor, of the logits, faults; then the versions.
Exits:  0 within LIMIT; 1 beyond it, or when a tensor found no place or is of another type.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import common

# Both add up in at least fp32 and round once to fp32: a few units of 6e-8, on weights of about 1.
LIMIT = 1e-6


def relative(found, expected):
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


def load(directory):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)


def check(lethe, base, merged):
    plain = dict(load(base)[0].named_parameters())
    expected = PeftModel.from_pretrained(load(base)[0], base / "adapter").merge_and_unload().eval()
    subprocess.run([lethe, "merge", f"model={base}", f"adapter={base / 'adapter'}", f"output={merged}", "dtype=fp32"], check=True)
    stored = load_file(merged / "model.safetensors")
    model, info = load(merged)
    faults = [f"{kind} {sorted(map(str, found))[:3]}" for kind, found in info.items() if found]
    tensors = dict(expected.named_parameters())
    faults += [f"tensor {name}" for name in sorted(stored.keys() ^ tensors.keys())]
    faults += [f"type of {name}" for name, tensor in stored.items() if tensor.dtype != torch.float32]
    worst = max(relative(stored[name], tensor.detach()) for name, tensor in tensors.items() if name in stored)
    moved = max(relative(tensor.detach(), plain[name]) for name, tensor in tensors.items())
    generator = torch.Generator().manual_seed(1)
    rows = [common.random_ids(generator, model.config.vocab_size, n) for n in common.SEQUENCE_LENGTHS]
    with torch.no_grad():
        logits = max(relative(common.logits(model.eval(), ids), common.logits(expected, ids)) for ids in rows)
    # Without a merge everything would be equal to the base, which must be far away.
    ok = worst <= LIMIT and logits <= 10 * LIMIT and moved > 0.1 and not faults
    return {"ok": ok, "tensors": len(stored), "max_relative_error": worst, "logits": logits, "adapter_moves": moved, "limit": LIMIT, "faults": faults}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lethe", default=str(common.GOLDEN.parents[1] / "lethe"), help="the command")
    options = parser.parse_args()
    common.prepare()
    bases = [common.GOLDEN / common.UNTIED, *sorted((common.GOLDEN / "families").iterdir())]
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for base in bases:
            results[base.name] = check(options.lethe, base, Path(folder) / base.name)
            print(json.dumps({"model": base.name} | results[base.name]))
    print(json.dumps(common.versions()))
    return 0 if all(r["ok"] for r in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
