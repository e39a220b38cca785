"""Do transformers and PEFT see in a demo's models what the demo's evaluation saw?

Proves: the fine-tuned base and each method's adapter, as exported, give the probability of every evaluated row.
Run:    python tests/oracle/check_demo.py DEMO_DIR        (what ./lethe demo --output DEMO_DIR wrote)
Prints check_export.py's line for each adapter, and for the base where its own evaluation was written.
Exits:  0 when all hold; 1 when one fails, or nothing was found to check.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROWS = Path("evaluation") / "evaluation-rows.jsonl"


def checks(demo):
    """(name, adapter or '-', rows)"""
    if (demo / "fine-tuned" / ROWS).exists():
        yield "fine-tuned", "-", demo / "fine-tuned" / ROWS
    for adapter in sorted(demo.glob("*/adapter")):
        yield adapter.parent.name, adapter, adapter.parent / ROWS


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    demo = parser.parse_args().demo
    base = demo / "fine-tuned" / "model"
    script = Path(__file__).with_name("check_export.py")
    adapters, failed = 0, []
    for name, adapter, rows in checks(demo):
        print(f"{name}: ", end="", flush=True)
        run = subprocess.run([sys.executable, script, base, adapter, rows])
        adapters += adapter != "-"
        if run.returncode != 0:
            failed.append(name)
    print(f"{demo}: {adapters} adapters checked, failed: {failed or 'none'}")
    return 1 if failed or adapters == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
