"""Does the comparison with the peers run whole, and does it find what is wrong?

Proves: bench/peers/gpu, on the CPU at tiny shapes: Lethe, PyTorch's eager losses and those of closer-look, PEFT's linears and optimizer, and
        Hugging Face + PEFT steps all agree with double precision or with each other before they are timed; what cannot be had is ABSENT with a
        reason, what time does not allow NOT RUN; a wrong coefficient of Lethe ends the run with 1. Also what the targets are judged by.
Run:    python tests/oracle/check_gpu_peers.py     (needs what ./lethe test builds)
Exits:  non-zero if one of that does not hold.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "java" / "lethe" / "target"
NATIVES = Path(os.environ.get("LETHE_NATIVE_BUILD", TARGET / "native"))
DNNL = TARGET / "native-deps" / "org" / "bytedeco" / "dnnl" / "linux-x86_64"
PEERS = ROOT / "bench" / "peers" / "gpu"
sys.path.insert(0, str(PEERS))


def java():
    flags = "-Xmx1g -XX:+UseSerialGC -Dorg.bytedeco.javacpp.maxBytes=0 -Dorg.bytedeco.javacpp.maxPhysicalBytes=0"
    return f"java {flags} -cp {ROOT}/bench/target/classes:{TARGET}/classes:{TARGET}/lib/*"


def run(prefix, *words, fault=None):
    """(exit status, document, output) of a tiny run; fault: Python that is run before it."""
    start = f"import sys; sys.path.insert(0, {str(PEERS)!r}); import main\n{fault or ''}\nsys.exit(main.main())"
    command = [sys.executable, "-c", start, "--plugins", str(NATIVES), "--prefix", str(prefix), "--device", "cpu", "--tiny", "--threads", "2", *words]
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{NATIVES}:{DNNL}", "GOMP_SPINCOUNT": "3000"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    file = Path(f"{prefix}.json")
    return done.returncode, json.loads(file.read_text(encoding="utf-8")) if file.exists() else None, done.stdout + done.stderr


def require(holds, what, output=""):
    if not holds:
        sys.exit(f"FAILED: {what}\n{output[-4000:]}")


def whole(work, dtype):
    status, document, output = run(work / dtype, "--dtype", dtype, "--rounds", "3", "--providers", "torch-eager,closer-look", "--java", java())
    require(status == 0, f"{dtype}: exit status {status}", output)
    timed = {(e["provider"], e.get("loss")) for e in document["results"] if "ms_median" in e and e["family"] == "head"}
    from cases import LOSSES

    for loss in LOSSES:
        require(("lethe", loss) in timed, f"{dtype}: Lethe's {loss} was not timed", output)
        require(dtype == "bf16" or ("torch-eager", loss) in timed, f"{dtype}: eager's {loss} was not timed", output)
    others = {(e["family"], e["provider"]) for e in document["results"] if e["status"] == "timed"}
    expected = {("linear", p) for p in ("lethe", "peft", "unsloth-style")} | {("optimizer", p) for p in ("lethe", "torch-adamw")}
    expected |= {("step", p) for p in ("lethe", "hf-peft-pad50", "hf-peft-packed")}
    require(expected <= others, f"{dtype}: {expected - others} were not timed", output)
    require("liger" in document["absent"] and document["absent"]["liger"], "no reason why Liger is absent", output)
    require(not document["not_run"], "a run without haste left something out", output)


def hasty(work):
    status, document, output = run(work / "hasty", "--seconds", "0")
    require(status == 1 and not document["results"], "a run without time has results", output)
    require(document["not_run"] and all(document["not_run"].values()), "what was not run has no reason", output)


def faults(work):
    """Each must be found: the sign of Lethe's coefficients, an adapter that is left out, weights that differ."""
    planted = {
        "coefficient": ("tiny/NPO/", "import exact, own_head\nown_head.coefficients = lambda *a: -exact.coefficients(*a)"),
        "adapter": ("linear", "import linear\nlinear.InPlace.forward = staticmethod(lambda c, x, w, a, b: (c.save_for_backward(x, w, a, b), x @ w.T)[1])"),
        "weights": ("step tiny", "import steps\nsteps.DEVIATION = 0.04"),
    }
    for name, (cases, fault) in planted.items():
        words = ["--dtype", "fp32", "--rounds", "3", "--cases", cases, "--providers", "torch-eager", "--java", java()]
        status, document, output = run(work / name, *words, fault=fault)
        require(status == 1 and any(e["status"] == "WRONG" for e in document["results"]), f"the fault '{name}' was not found", output)


def survives(work):
    """A case that cannot be run at all is told, and those behind it run."""
    fault = "import optimizer\ndef broken(*a): raise OSError('broken')\noptimizer.OptimizerBench.run = broken"
    words = ["--dtype", "fp32", "--rounds", "3", "--cases", "optimizer,linear", "--providers", "torch-eager", "--java", java()]
    status, document, output = run(work / "survives", *words, fault=fault)
    require(document is not None, "a case that failed left no results", output)
    failed = [e for e in document["results"] if e["status"] == "FAILED"]
    require(status == 1 and [e["why"] for e in failed] == ["OSError: broken"], f"a case that failed is not told: {failed}", output)
    require(any(e["family"] == "linear" and "ms_median" in e for e in document["results"]), "the cases behind one that failed were left out", output)


def judged():
    import report

    base = dict(family="head", shape="S1", data="peaky", n=10, d=10, error_of="npo", error=1e-3, status="timed")
    workspace = dict(workspace_bytes=598_000_000)
    entry = lambda case, loss, provider, ms, peak, **more: {**base, "case": case, "loss": loss, "provider": provider, "ms_median": ms, "peak_bytes": peak, **more}
    results = [
        # What a first call loads of kernels is in the peak, and no part of the workspace.
        entry("a", "NPO", "lethe", 10, 7e8, **workspace),
        entry("a", "NPO", "fast but large", 5, 9e9),
        entry("a", "NPO", "fast but inexact", 4, 1e9, status="INEXACT"),
        entry("a", "NPO", "bounded", 15, 1e9),
        entry("b", "ME", "lethe", 10, 3e8),
        entry("b", "ME", "torch-compile", 9, 9e9),
    ]
    ratios = report.add_ratios(results)
    require(ratios[0]["fastest_bounded"] == "bounded" and ratios[0]["ratio_bounded"] == 1.5, f"the wrong yardstick: {ratios[0]}")
    require(ratios[0]["ratio_any"] == 0.5 and "ratio_bounded" not in ratios[1], f"the wrong yardstick: {ratios}")
    verdicts = [t["verdict"] for t in report.judge(results, ratios, True)]
    require(verdicts[:4] == ["met", "unmet", "met", "unmeasured"], f"judged {verdicts}")
    require([t["verdict"] for t in report.judge(results, ratios, True) if "workspace" in t["target"]] == ["met"], "the workspace is misjudged")
    require(verdicts[-1] == "unmeasured", "a step that was not made is judged")


def main():
    judged()
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
        work = Path(directory)
        whole(work, "fp32")
        whole(work, "bf16")
        hasty(work)
        faults(work)
        survives(work)
    print("the peers: two whole runs, one without time, three faults found, a failure survived")


if __name__ == "__main__":
    main()
