"""Do transformers and PEFT see in an exported model what its exporter saw?

Proves: a base directory and an adapter directory load unchanged in transformers and PEFT, and give the same probability for every row.
Run:    python tests/oracle/check_export.py BASE_DIR ADAPTER_DIR ROWS_JSONL       (ADAPTER_DIR '-': the base alone)
Rows:   {"ids": [...], "answer_start": k, "probability": p}   p = exp(-mean nll of ids[answer_start:]), answer_start >= 1
Prints one JSON line: rows, largest absolute difference, the line it is on, versions.
Exits:  0 within 1e-4; 1 beyond it, with a value that is not finite, with a tensor that found no place, or without rows; 2 for a row it cannot use.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

import common

LIMIT = 1e-4


def read_rows(path):
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not 1 <= row["answer_start"] < len(row["ids"]):
            raise ValueError(f"{path}:{number}: answer_start {row['answer_start']} leaves no answer in {len(row['ids'])} ids")
        rows.append((number, row))
    return rows


def load(base, adapter):
    """The model and a list of what did not fit: transformers and PEFT themselves only warn about tensors they do not find or know."""
    model, info = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, output_loading_info=True)
    faults = [f"base: {kind} {sorted(map(str, found))[:3]}" for kind, found in info.items() if found]
    if adapter != "-":
        model = PeftModel.from_pretrained(model, adapter, config=PeftConfig.from_pretrained(adapter))
        with safe_open(Path(adapter) / "adapter_model.safetensors", "pt") as file:
            stored = set(file.keys())
        expected = {k.replace(".default.", ".") for k, _ in model.named_parameters() if "lora_" in k}
        faults += [f"adapter: {kind} {sorted(k)[:3]}" for kind, k in (("missing", expected - stored), ("unexpected", stored - expected)) if k]
    return model.eval(), faults


@torch.no_grad()
def probability(model, row):
    nll = common.shifted_nll(common.logits(model, row["ids"]).double(), row["ids"])
    return math.exp(-nll[row["answer_start"] - 1 :].mean().item())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="Hugging Face model directory")
    parser.add_argument("adapter", help="PEFT adapter directory, or -")
    parser.add_argument("rows", type=Path, help="JSON lines")
    options = parser.parse_args()
    common.prepare()
    try:
        rows = read_rows(options.rows)
    except (ValueError, KeyError, TypeError) as fault:
        print(f"{options.rows}: {type(fault).__name__}: {fault}", file=sys.stderr)
        return 2
    model, faults = load(options.base, options.adapter)
    worst, where = 0.0, None
    for number, row in rows:
        difference = abs(probability(model, row) - row["probability"])
        # Written so that NaN is a failure: it compares false with everything.
        if not difference <= worst:
            worst, where = difference, number
            if math.isnan(difference):
                break
    ok = bool(rows) and worst <= LIMIT and not faults
    result = {"ok": ok, "rows": len(rows), "max_abs_difference": str(worst) if math.isnan(worst) else worst, "worst_line": where, "limit": LIMIT}
    print(json.dumps(result | {"faults": faults, "versions": common.versions()}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
