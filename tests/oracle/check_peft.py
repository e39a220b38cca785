"""Do PEFT and transformers see in what Lethe writes what PEFT saw in the original?

Proves: `lethe export` of every adapter of make_peft.py loads in PEFT unchanged, with every tensor equal to the bit and the same logits; in fp16 and bf16
        too, with each number rounded once; `lethe merge` of it into fp32, fp16, bf16 and tied bases, in shards, gives W + scale * BA, rounded once, and
        transformers the same logits. With --demo: adapters that Lethe trained with stabilised scales, patterns, layers and dropout, as PEFT sees them.
Run:    python tests/oracle/check_peft.py [--lethe ./lethe] [--demo DEMO_DIR]    (DEMO_DIR: what `lethe demo --output DEMO_DIR` wrote)
Prints a line of JSON for each case, and the worst of all.
Exits:  0 within the limits; 1 beyond one, or when a tensor found no place.
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
import make_peft

# The files hold the same fp32 numbers: what differs is fp64 rounding and, once merged, one rounding of each weight to fp32.
LOGITS = 1e-6
# Of the numbers that a merge rounds, those where the fp64 sum lies so near a tie that the order of summation decides.
TIES = 1e-3
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Lethe's own ways to train adapters, by its configuration's keys.
TRAINED = {
    "stabilised": ["lora.rslora=true", "lora.rank=3", "lora.alpha=5"],
    "patterns": ["lora.targets=[q_proj, v_proj, down_proj]", "lora.rank_pattern.v_proj=2", "lora.alpha_pattern.down_proj=3", "lora.rank=4"],
    "regex": [r"lora.target_regex='.*\.0\.(self_attn\.[qk]|mlp\.up)_proj'", "lora.rank=2"],
    "one-layer": ["lora.layers=[0]", "lora.exclude=[o_proj]", "lora.rank=2"],
}


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def logits(model):
    common.lift_to_float64(model.eval())
    with torch.no_grad():
        return torch.cat([common.logits(model, ids) for ids in common.sequences(common.UNTIED)])


def with_peft(base, adapter):
    model = PeftModel.from_pretrained(common.load_model(base.parent, base.name), adapter)
    stored = load_file(adapter / "adapter_model.safetensors")
    expected = {k.replace(".default.", ".") for k, _ in model.named_parameters() if "lora_" in k}
    return model, [f"{adapter.name}: tensor {k}" for k in sorted(expected ^ stored.keys())]


def merged_weights(base, adapter):
    """W + scale * BA in fp64, by PEFT's own scales."""
    model, faults = with_peft(base, adapter)
    weights = {k: v.double() for k, v in common.load_model(base.parent, base.name).state_dict().items()}
    for key, module in model.base_model.model.named_modules():
        if getattr(module, "lora_A", None):
            (name,) = module.lora_A
            a, b = module.lora_A[name].weight.double(), module.lora_B[name].weight.double()
            weights[f"{key}.weight"] += module.scaling[name] * (b @ a)
    return weights, faults


def stored(folder):
    tensors = {}
    for path in sorted(folder.glob("model*.safetensors")):
        tensors |= load_file(path)
    return tensors


def check_merge(lethe, base, adapter, folder, dtype):
    """The fraction of numbers that are not the one rounding of the fp64 sum, and what did not fit."""
    out = folder / f"merged-{base.name}"
    subprocess.run([*lethe, "merge", f"model={base}", f"adapter={adapter}", f"output={out}", "max_shard_size=20000B"], check=True, capture_output=True)
    weights, faults = merged_weights(base, adapter)
    found = stored(out)
    if not (out / "model.safetensors.index.json").exists():
        faults.append("no index of shards")
    _, info = AutoModelForCausalLM.from_pretrained(out, dtype=dtype, output_loading_info=True)
    faults += [f"{base.name}: {kind} {sorted(map(str, names))[:3]}" for kind, names in info.items() if names]
    differ = sum((tensor.to(dtype) != weights[key].to(dtype)).sum().item() for key, tensor in found.items())
    faults += [f"{base.name}: type of {key}" for key, tensor in found.items() if tensor.dtype != dtype]
    moved = sum((weights[key] - value.double()).abs().sum().item() for key, value in stored(base).items())
    if moved == 0:
        faults.append(f"{base.name}: the adapter moves nothing")
    return out, differ / sum(tensor.numel() for tensor in found.values()), faults


def check_case(lethe, case, bases, golden, folder):
    original = common.GOLDEN / json.loads((common.GOLDEN / make_peft.FOLDER / "cases.json").read_text())["cases"][case]["folder"]
    kept = load_file(original / "adapter_model.safetensors")
    faults, ties = [], 0.0
    for name, dtype in [("stored", None), *TYPES.items()]:
        out = folder / f"{case}-{name}"
        subprocess.run([*lethe, "export", f"from={original}", f"output={out}", f"dtype={name}"], check=True, capture_output=True)
        again = load_file(out / "adapter_model.safetensors")
        faults += [f"{name}: tensor {k}" for k in sorted(kept.keys() ^ again.keys())]
        faults += [f"{name}: {k} differs" for k in kept.keys() & again.keys() if not torch.equal(again[k], kept[k] if dtype is None else kept[k].to(dtype))]
    model, more = with_peft(bases["fp32"], folder / f"{case}-stored")
    exported = relative(logits(model), golden)
    for name, base in bases.items():
        out, rate, found = check_merge(lethe, base, original, folder, TYPES[name])
        ties, more = max(ties, rate), more + found
        if name == "fp32":
            merged = relative(logits(AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)), golden)
        subprocess.run(["rm", "-r", out], check=True)
    faults += more
    ok = not faults and exported <= LOGITS and merged <= LOGITS and ties <= TIES
    return {"case": case, "ok": ok, "exported": exported, "merged": merged, "not_nearest": ties, "faults": faults}


def check_tied(lethe, folder):
    base = common.GOLDEN / common.TIED
    settings = dict(r=3, lora_alpha=4, use_rslora=True, target_modules="all-linear", rank_pattern={"v_proj": 2})
    model = make_peft.trained(common.load_model(common.GOLDEN, common.TIED), settings, "default", 909)
    adapter = make_peft.write(model, folder / "of-tied", "default", torch.float32, {})
    out, rate, faults = check_merge(lethe, base, adapter, folder, torch.float32)
    if "lm_head.weight" in stored(out):
        faults.append("the tied head was written")
    return {"case": "tied", "ok": not faults and rate <= TIES, "not_nearest": rate, "faults": faults}


def check_trained(lethe, demo, folder):
    for name, keys in TRAINED.items():
        run = folder / f"trained-{name}"
        base = demo / "fine-tuned" / "model"
        data = [f"data.{part}=[{demo / 'data' / part}.jsonl]" for part in ("forget", "retain")]
        steps = ["train.steps=4", "train.batch_size=4", "train.learning_rate=1e-3", "evaluate.max_new_tokens=4", "lora.dropout=0.1"]
        subprocess.run([*lethe, "unlearn", f"model={base}", f"output={run}", *data, *steps, *keys], check=True, capture_output=True)
        rows = run / "evaluation" / "evaluation-rows.jsonl"
        script = Path(__file__).with_name("check_export.py")
        result = subprocess.run([sys.executable, script, base, run / "adapter", rows], capture_output=True, text=True)
        line = json.loads(result.stdout)
        yield {"case": f"trained-{name}", "ok": result.returncode == 0, "rows": line["rows"], "probability": line["max_abs_difference"], "faults": line["faults"]}


def halves(folder):
    """llama-tiny in all three types."""
    bases = {"fp32": common.GOLDEN / common.UNTIED}
    for name in ("fp16", "bf16"):
        bases[name] = folder / f"llama-{name}"
        common.load_model(common.GOLDEN, common.UNTIED).to(TYPES[name]).save_pretrained(bases[name])
    return bases


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lethe", default=str(common.GOLDEN.parents[1] / "lethe"), help="the command")
    parser.add_argument("--demo", type=Path, help="a demo's output, to train adapters on")
    options = parser.parse_args()
    lethe = [options.lethe]
    common.prepare()
    goldens = load_file(common.GOLDEN / make_peft.FOLDER / "logits.safetensors")
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bases = halves(folder)
        for case in make_peft.CASES:
            results.append(check_case(lethe, case, bases, goldens[case].double(), folder))
            print(json.dumps(results[-1]), flush=True)
        results.append(check_tied(lethe, folder))
        print(json.dumps(results[-1]), flush=True)
        if options.demo:
            for result in check_trained(lethe, options.demo, folder):
                results.append(result)
                print(json.dumps(result), flush=True)
    worst = {k: max(r.get(k, 0) for r in results) for k in ("exported", "merged", "not_nearest", "probability")}
    ok = all(r["ok"] for r in results)
    print(json.dumps({"ok": ok, "cases": len(results)} | worst | {"versions": common.versions()}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
