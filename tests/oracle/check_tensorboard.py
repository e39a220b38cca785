"""Does TensorBoard itself read Lethe's event files as they were meant?

Proves: TensorBoard's EventAccumulator finds every scalar and text with its step, wall time and value, and drops what a resumed run makes again.
Run:    python tests/oracle/check_tensorboard.py              tests/golden/tensorboard, which the Java tests compare byte by byte with what is written
        python tests/oracle/check_tensorboard.py RUN_DIR ...  the event files of runs against their metrics.jsonl and timings.jsonl
Prints one JSON line: what was checked, how many points, what differs, versions.
Exits:  0 when everything is as expected, 1 when not, 2 for a directory that holds no run.
"""

import argparse
import json
import math
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import tensorboard.version
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tensorboard"
NAME = "events.out.tfevents.{:010d}.lethe.1.0"
EVERYTHING = {"scalars": 0, "tensors": 0}


def load(directory):
    accumulator = EventAccumulator(str(directory), size_guidance=EVERYTHING)
    accumulator.Reload()
    return accumulator


def scalars(accumulator):
    """{tag: [(step, value)]}; wall times are only looked at in the goldens, since a run's are no part of its metrics."""
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


def differences(found, expected):
    faults = [f"tag {tag} is {'missing' if tag in expected else 'unexpected'}" for tag in sorted(set(found) ^ set(expected))]
    for tag in sorted(set(found) & set(expected)):
        if [s for s, _ in found[tag]] != [s for s, _ in expected[tag]]:
            faults.append(f"{tag}: steps {[s for s, _ in found[tag]]}, expected {[s for s, _ in expected[tag]]}")
        elif not all(same(a, b) for (_, a), (_, b) in zip(found[tag], expected[tag])):
            faults.append(f"{tag}: values differ")
    return faults


def check_golden():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shutil.copy(GOLDEN / "first.tfevents", folder / NAME.format(1_700_000_000))
        first = load(folder)
        faults = differences(scalars(first), {"train/loss": [(s, s / 8) for s in range(4)], "train/parts/ME": [(s, math.nan if s == 1 else 0.0) for s in range(4)]})
        if [e.wall_time for e in first.Scalars("train/loss")] != [1_700_000_000.25 + s for s in range(4)]:
            faults.append("wall times differ")
        text = [(e.step, tensor_util.make_ndarray(e.tensor_proto).item()) for e in first.Tensors("config")]
        if text != [(0, b"    seed: 7")] or list(first.PluginTagToContent("text")) != ["config"]:
            faults.append(f"text: {text}")
        shutil.copy(GOLDEN / "resumed.tfevents", folder / NAME.format(1_700_000_010))
        # Steps 2 and 3 of the first file are dropped; the second file has them again, with other values so that they can be told apart.
        loss = [(s, s / 8) for s in range(2)] + [(s, (s + 100) / 8) for s in range(2, 5)]
        part = [(s, math.nan if s == 1 else 0.0) for s in range(5)]
        resumed = scalars(load(folder))
        faults += differences(resumed, {"train/loss": loss, "train/parts/ME": part})
    return {"checked": "golden", "points": sum(map(len, resumed.values())), "differences": faults}


def flatten(prefix, values, out, step):
    for key, value in values.items():
        if isinstance(value, dict):
            flatten(f"{prefix}/{key}", value, out, step)
        elif value in ("NaN", "Infinity", "-Infinity") or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            # fp32 as the event files have it; what is beyond it is infinite there.
            number = float(value)
            try:
                number = struct.unpack("<f", struct.pack("<f", number))[0]
            except OverflowError:
                number = math.copysign(math.inf, number)
            out.setdefault(f"{prefix}/{key}", {})[step] = number


def check_run(run):
    expected = {}
    for name, prefix in (("metrics.jsonl", "train"), ("timings.jsonl", "machine")):
        for line in (run / name).read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            if "step" not in values:
                continue
            step = values.pop("step")
            if "evaluation" in values:
                flatten("evaluation", values.pop("evaluation") | values, expected, step)
            else:
                flatten(prefix, values, expected, step)
    found = scalars(load(run / "tensorboard"))
    # The step a run goes on with may come twice: the last one counts, as in the files.
    found = {tag: sorted(dict(points).items()) for tag, points in found.items()}
    faults = differences(found, {tag: sorted(points.items()) for tag, points in expected.items()})
    return {"checked": run.name, "points": sum(map(len, found.values())), "differences": faults}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="directories of runs; none: the goldens")
    options = parser.parse_args()
    for run in options.runs:
        if not (run / "metrics.jsonl").is_file():
            print(f"{run}: has no metrics.jsonl; give the output directory of a run", file=sys.stderr)
            return 2
    results = [check_run(run) for run in options.runs] or [check_golden()]
    for result in results:
        print(json.dumps(result | {"versions": {"tensorboard": tensorboard.version.VERSION}}))
    return 0 if all(r["points"] and not r["differences"] for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
