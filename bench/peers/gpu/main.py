#!/usr/bin/env python3
"""Lethe beside its peers on one device, in one run: the head's losses, LoRA linears, the optimizer, whole steps.

Run: python bench/peers/gpu/main.py --plugins java/lethe/target/native --prefix DIR/NAME [--device cuda:0] [--seconds 430]
     bench/gpu/run peers calls it with all it needs; --device cpu --tiny shows on any machine that everything runs, and gives no figures.
Inputs are made once. Each result is compared with double precision before anything is timed; then all take turns. Cases stand in the order of
their importance; what the time does not allow is listed as NOT RUN. A peer that cannot be had is ABSENT with the reason.
--cases: parts of names, such as S2/, /NPO, linear, step. --graphs asks, in a process of its own, what can be captured into CUDA graphs.
Exit status: 0, 1 a result of Lethe or the call of a peer is wrong, or nothing was timed, 2 misuse.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import head  # noqa: E402
import linear  # noqa: E402
import optimizer  # noqa: E402
import report  # noqa: E402
import steps  # noqa: E402
from measure import Meter, capturable  # noqa: E402
from own_head import Own, open_engine  # noqa: E402

GRAPH_SECONDS = 40


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plugins", required=True, help="folder of liblethe.so and its backends")
    parser.add_argument("--prefix", required=True, help="of the two result files")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=430)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cases", default="", help="parts of case names, with commas between")
    parser.add_argument("--providers", default="", help="names of head peers, with commas between; Lethe always runs")
    parser.add_argument("--tiny", action="store_true", help="moments, no figures")
    parser.add_argument("--graphs", action="store_true", help="print what can be captured, as JSON, and measure nothing")
    parser.add_argument("--java", default="", help="command line that ends in a class path and starts org.lethe.bench.StepRounds")
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--date", default="unknown")
    parser.add_argument("--command", default="bench/peers/gpu/main.py")
    options = parser.parse_args(argv)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: torch sees no CUDA device; --device cpu --tiny shows that everything runs")
    options.providers = [p for p in options.providers.split(",") if p]
    return options


class Run:
    def __init__(self, options):
        self.options, self.began = options, time.monotonic()
        device = torch.device(options.device)
        self.meter = Meter(device)
        self.engine = open_engine(options.plugins, device, options.threads)
        self.head = head.HeadBench(options, self.meter, Own(self.engine))
        self.linear = linear.LinearBench(options, self.meter, self.engine)
        self.optimizer = optimizer.OptimizerBench(options, self.meter, self.engine)
        self.steps = steps.StepBench(options, self.meter, self.engine)
        absent = self.head.absent | self.linear.absent | self.steps.absent
        self.document = dict(what="gpu-peers", device=self.engine.description, cuda=self.meter.cuda, torch=torch.__version__, dtype=options.dtype)
        self.document.update(commit=options.commit, date=options.date, command=options.command, tiny=options.tiny, absent=absent, not_run={}, results=[])

    def items(self):
        """(name, seconds, work) in the order of importance: the first heads, the steps, then what is left of each family in turns."""
        heads = [(f"head {c.name()}", s, lambda c=c, s=s: self.head.run(c, s)) for c, s in head.plan(self.options.tiny)]
        whole = [(f"step {name}", s, lambda name=name, s=s: self.steps.run(name, s)) for name, s in steps.plan(self.options.tiny)]
        linears = [(f"linear {c}", s, lambda c=c, s=s: self.linear.run(c, s)) for c, s in linear.plan(self.options.tiny)]
        update = [("optimizer", 6, lambda: self.optimizer.run(6))]
        count = 8
        items = heads[:count] + whole + heads[count : 2 * count] + update + linears[:4] + heads[2 * count :] + linears[4:]
        wanted = [w for w in self.options.cases.split(",") if w]
        return [i for i in items if not wanted or any(w in i[0] for w in wanted)]

    def left(self):
        reserve = GRAPH_SECONDS if self.meter.cuda else 0
        return self.options.seconds - reserve - (time.monotonic() - self.began)

    def all(self):
        items = self.items()
        for name, seconds, work in items:
            if self.left() < seconds:
                self.document["not_run"][name] = f"some {seconds} s, {max(0, self.left()):.0f} s were left"
                continue
            begin = time.monotonic()
            try:
                entries = work()
            except Exception as e:  # noqa: BLE001 - the cases behind one that fails are wanted all the same
                family = name.split(" ")[0]
                entries = [dict(family=family, case=name, provider="lethe", loss=None, status="FAILED", why=f"{type(e).__name__}: {e}")]
            self.document["results"] += entries
            # A run that is cut off leaves what it had.
            report.write(self.options.prefix, self.document)
            for e in entries:
                took = f"{e['ms_median']:10.3f} ms" if "ms_median" in e else f"{e['status']}: {e.get('why', '')}"
                print(f"{e['family']:<9} {e['case']:<24} {e['provider']:<24} {took}  {e['status']} {e.get('error', 0):.1e}", flush=True)
            print(f"          {name}: {time.monotonic() - begin:.1f} s", flush=True)
        return items

    def graphs(self):
        """{provider: {loss: whether}} by a child, whose context may be spoilt."""
        if not self.meter.cuda or not self.document["results"]:
            return
        words = [sys.executable, __file__, "--graphs", "--plugins", self.options.plugins, "--prefix", "-", "--device", self.options.device]
        seconds = max(1, min(GRAPH_SECONDS, self.left() + GRAPH_SECONDS))
        run = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
        for line in run.stdout.splitlines():
            found = json.loads(line)
            for e in self.document["results"]:
                if e["family"] == "head" and (e["provider"], e["loss"]) == (found["provider"], found["loss"]):
                    e["graph"] = found["graph"]


def ask_graphs(options):
    """Lethe's passes with the host's part left out, as a training captures them; peers whole."""
    device = torch.device(options.device)
    engine = open_engine(options.plugins, device, 1)
    bench = head.HeadBench(options, Meter(device), Own(engine))
    for case, _ in head.plan(True):
        if case.shape.name != "tiny" or case.data != "peaky":
            continue
        inputs, _ = bench.inputs(case)
        for provider in [bench.own, *bench.peers]:
            try:
                call = provider.prepare(case, inputs)
                if provider is bench.own:
                    call = call.passes
                print(json.dumps(dict(provider=provider.name, loss=case.loss, graph=capturable(call))), flush=True)
            except Exception:  # noqa: BLE001 - what a peer lacks is told by the timed run
                continue


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.device.startswith("cuda"):
        # Work on the null stream would wait for everybody's.
        torch.cuda.set_device(options.device)
        torch.cuda.set_stream(torch.cuda.Stream())
    if options.graphs:
        return ask_graphs(options)
    run = Run(options)
    for name, why in run.document["absent"].items():
        print(f"ABSENT {name}: {why}")
    try:
        run.all()
        try:
            run.graphs()
        except subprocess.TimeoutExpired:
            print("what can be captured into graphs was not found out in time")
    finally:
        run.steps.close()
        report.write(options.prefix, run.document)
    wrong = [f"{e['provider']} {e['case']}: {e['why']}" for e in run.document["results"] if e["status"] == "WRONG"]
    failed = [e for e in run.document["results"] if e["status"] == "FAILED" and e["provider"] == "lethe"]
    print("\n".join(f"WRONG {w}" for w in wrong))
    timed = sum("ms_median" in e for e in run.document["results"])
    for t in run.document["targets"]:
        print(f"{t['verdict']:<10} {t['target']}: wanted {t['wanted']}, found {t['found']}")
    print(f"{timed} timed, {len(wrong)} WRONG, {len(run.document['absent'])} ABSENT, {len(run.document['not_run'])} NOT RUN")
    return 1 if wrong or failed or not timed else 0


if __name__ == "__main__":
    sys.exit(main())
