"""Does `lethe merge` write what PEFT's merge_and_unload computes?

Proves: every tensor of llama-tiny with its adapter merged equals PEFT's merge, and transformers loads the directory and computes the same logits.
Run:    python tests/oracle/check_merge.py [--lethe ./lethe]     (needs tests/golden/llama-tiny; builds Lethe when that is out of date)
Prints one line: the largest relative error of a tensor, of the logits, versions.
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lethe", default=str(common.GOLDEN.parents[1] / "lethe"), help="the command")
    options = parser.parse_args()
    common.prepare()
    base = common.GOLDEN / common.UNTIED
    expected = PeftModel.from_pretrained(common.load_model(common.GOLDEN, common.UNTIED), base / "adapter").merge_and_unload().eval()
    with tempfile.TemporaryDirectory() as folder:
        merged = Path(folder) / "merged"
        subprocess.run([options.lethe, "merge", f"model={base}", f"adapter={base / 'adapter'}", f"output={merged}"], check=True)
        stored = load_file(merged / "model.safetensors")
        model, info = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32, output_loading_info=True)
    faults = [f"{kind} {sorted(map(str, found))[:3]}" for kind, found in info.items() if found]
    tensors = dict(expected.named_parameters())
    faults += [f"tensor {name}" for name in sorted(stored.keys() ^ tensors.keys())]
    faults += [f"type of {name}" for name, tensor in stored.items() if tensor.dtype != torch.float32]
    worst = max(relative(stored[name], tensor.detach()) for name, tensor in tensors.items() if name in stored)
    moved = max(relative(tensor.detach(), plain) for (_, tensor), plain in zip(tensors.items(), common.load_model(common.GOLDEN, common.UNTIED).parameters()))
    with torch.no_grad():
        logits = max(relative(common.logits(model.eval(), ids), common.logits(expected, ids)) for ids in common.sequences(common.UNTIED))
    # Without a merge everything would be equal to the base, which must be far away.
    ok = worst <= LIMIT and logits <= 10 * LIMIT and moved > 0.1 and not faults
    result = {"ok": ok, "tensors": len(stored), "max_relative_error": worst, "logits": logits, "adapter_moves": moved, "limit": LIMIT}
    print(json.dumps(result | {"faults": faults, "versions": common.versions()}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
