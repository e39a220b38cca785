"""Checks the checker: check_export.py must accept what is right and refuse each kind of wrong.

Proves: check_export.py can fail: a value off by 2e-4, NaN, no rows, a bad row, the wrong adapter, a missing and a misnamed tensor.
Run:    python tests/oracle/check_export_selftest.py     (needs tests/golden/llama-tiny; about a minute)
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from peft import PeftModel
from safetensors.torch import load_file, save_file

import check_export
import common

BASE = common.GOLDEN / common.UNTIED
ADAPTER = BASE / "adapter"


def rows(model):
    made = [{"ids": ids, "answer_start": len(ids) // 2} for ids in common.sequences(common.UNTIED)]
    return [row | {"probability": check_export.probability(model, row)} for row in made]


def changed_adapter(directory, change):
    shutil.copytree(ADAPTER, directory)
    path = directory / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return directory


def main():
    common.prepare()
    model = common.load_model(common.GOLDEN, common.UNTIED)
    plain = rows(model)
    adapted = rows(PeftModel.from_pretrained(model, ADAPTER).eval())
    some = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        missing = changed_adapter(folder / "missing", lambda t: t.pop(some))
        misnamed = changed_adapter(folder / "misnamed", lambda t: t.update({some.replace("up_proj", "no_proj"): t.pop(some)}))
        negated = changed_adapter(folder / "negated", lambda t: t.update({some: -t[some]}))

        def off(by):
            return [*plain[:-1], plain[-1] | {"probability": plain[-1]["probability"] + by}]

        # (what, adapter, rows, expected exit status)
        cases = [
            ("base alone", "-", plain, 0),
            ("adapter", ADAPTER, adapted, 0),
            ("off by 2e-4", "-", off(2e-4), 1),
            ("off by 5e-5", "-", off(5e-5), 0),
            ("NaN first", "-", [plain[0] | {"probability": float("nan")}, *plain[1:]], 1),
            ("no rows", "-", [], 1),
            ("no answer", "-", [plain[0] | {"answer_start": len(plain[0]["ids"])}], 2),
            ("adapter forgotten", "-", adapted, 1),
            ("adapter not asked for", ADAPTER, plain, 1),
            ("one B negated", negated, adapted, 1),
            ("one B missing", missing, adapted, 1),
            ("one B misnamed", misnamed, adapted, 1),
        ]
        failed = 0
        for what, adapter, given, expected in cases:
            path = folder / "rows.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
            command = [sys.executable, Path(check_export.__file__), BASE, str(adapter), path]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            # A crash would also be non-zero: only a printed verdict counts as a refusal.
            verdict = run.stdout.startswith("{") if expected < 2 else not run.stdout
            good = run.returncode == expected and verdict
            failed += not good
            print(f"{'ok  ' if good else 'FAIL'} {what}: exit {run.returncode}, expected {expected}")
            if not good:
                print(run.stdout, run.stderr[-2000:])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
