#!/usr/bin/env python3
"""Takes the numbers, and no text, out of open-unlearning's published evaluation logs.

    extract_logs.py --logs DIR --summaries FILE [--out DIR]

DIR holds `full_forget10/TOFU_EVAL.json` and `retain90/TOFU_EVAL.json` (dataset open-unlearning/eval, Llama-3.2-1B), FILE the summaries of 28
models as one object. Writes `logs/<log>.json.gz`: per metric its printed aggregate and, in the order of the log, each row's numbers;
and `logs/summaries.json`. Not part of make_goldens.py, which needs nothing from outside.
"""

import argparse
import gzip
import json
from pathlib import Path

LOGS = ("full_forget10", "retain90")
TEXTS = ("input", "ground_truth", "generation")


def stripped(metric):
    """A metric of a log without its texts: {name of a number: its value per row} in place of the rows."""
    if "forget" in metric:
        return {"auc": metric["auc"], "forget": stripped(metric["forget"]), "holdout": stripped(metric["holdout"])}
    if "value_by_index" not in metric:
        return metric
    rows = list(metric["value_by_index"].values())
    names = [name for name in rows[0] if name not in TEXTS]
    return {"agg_value": metric["agg_value"], **{name: [row[name] for row in rows] for name in names}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--summaries", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "golden")
    arguments = parser.parse_args()
    folder = arguments.out / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    for log in LOGS:
        metrics = json.loads((arguments.logs / log / "TOFU_EVAL.json").read_text(encoding="utf-8"))
        numbers = {name: stripped(metric) for name, metric in metrics.items()}
        text = json.dumps(numbers, separators=(",", ":"))
        (folder / f"{log}.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    summaries = json.loads(arguments.summaries.read_text(encoding="utf-8"))
    (folder / "summaries.json").write_text(json.dumps(summaries, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
