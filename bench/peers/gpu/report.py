"""The two result files, and what was asked for beside what was found."""

import json
from pathlib import Path

BOUNDED_BYTES = 2e9
SEQUENCE_LOSSES = ("NPO", "SimNPO", "DPO-IDK", "AP", "NPO+GD", "NPO+KL", "ME+GD", "ME+AP")


def ran(entries, provider=None):
    return [e for e in entries if e.get("ms_median") and (provider is None or e["provider"] == provider)]


def by_case(results, family):
    cases = {}
    for e in results:
        if e["family"] == family:
            cases.setdefault(e["case"], []).append(e)
    return cases


def add_ratios(results):
    """For each case: how many times faster Lethe is than the fastest exact peer within 2 GB, and than the fastest of all."""
    ratios = []
    for family in ("head", "linear", "optimizer", "step"):
        for case, entries in by_case(results, family).items():
            own = ran(entries, "lethe")
            peers = [e for e in ran(entries) if e["provider"] != "lethe" and e["status"] == "timed"]
            bounded = [e for e in peers if e.get("peak_bytes") is not None and e["peak_bytes"] <= BOUNDED_BYTES]
            row = dict(family=family, case=case, loss=entries[0].get("loss"), lethe_ms=own[0]["ms_median"] if own else None)
            for key, some in (("bounded", bounded), ("any", peers)):
                if own and some:
                    best = min(some, key=lambda e: e["ms_median"])
                    row[f"fastest_{key}"] = best["provider"]
                    row[f"ratio_{key}"] = round(best["ms_median"] / own[0]["ms_median"], 3)
            ratios.append(row)
    return ratios


def target(what, values, holds, wanted):
    """One line: met, unmet, or unmeasured; the worst value decides."""
    if not values:
        return dict(target=what, wanted=wanted, found=None, verdict="unmeasured")
    worst = min(values, key=lambda v: (holds(v), v)) if wanted.startswith("≥") else max(values, key=lambda v: (not holds(v), v))
    return dict(target=what, wanted=wanted, found=worst, of=len(values), verdict="met" if all(map(holds, values)) else "unmet")


def judge(results, ratios, cuda):
    if not cuda:
        return []
    head = [r for r in ratios if r["family"] == "head"]
    values = lambda rows, key: [r[key] for r in rows if key in r]
    sequence = values([r for r in head if r["loss"] in SEQUENCE_LOSSES], "ratio_bounded")
    token = values([r for r in head if r["loss"] in ("ME", "GD")], "ratio_any")
    own = [e for e in ran(results, "lethe") if e["family"] == "head"]
    shares = []
    for e in own:
        if e["loss"] in ("ME", "GD"):
            large = [p["peak_bytes"] for p in ran(results) if p["case"] == e["case"] and (p.get("peak_bytes") or 0) > BOUNDED_BYTES]
            shares += [e["peak_bytes"] / b for b in large if e["peak_bytes"] is not None]
    kl = [e["error"] for e in own if e["error_of"] == "kl"]
    others = [
        e["error"] for e in results
        if e["family"] == "head" and e.get("error_of") == "kl" and e["provider"] in ("torch-eager", "liger", "liger-chunked") and e["data"] == "peaky"
    ]  # fmt: skip
    # Not the peak, in which what a first call loads of kernels is counted, too.
    memory = [e["workspace_bytes"] / 1e6 for e in own if e.get("workspace_bytes") is not None]
    step = lambda case, peer: [
        p["ms_median"] / o["ms_median"]
        for o in ran(results, "lethe") for p in ran(results, peer)
        if o["family"] == "step" and o["case"] == p["case"] == case
    ]  # fmt: skip
    return [
        target("sequence and mixed losses: speed over the fastest exact peer within 2 GB", sequence, lambda v: v >= 1.4, "≥ 1.4×"),
        target("ME and NLL: speed over the fastest peer of any memory", token, lambda v: v >= 1.0, "≥ 1×"),
        target("ME and NLL: share of the memory of peers beyond 2 GB", shares, lambda v: v <= 0.1, "≤ 0.1"),
        target("KL: Lethe's gradient error", kl, lambda v: v <= 0.015, "≤ 1.5 %"),
        target("KL: the gradient error of eager and Liger in bf16, for comparison", others, lambda v: v >= 0.1, "≥ 10 %"),
        target("the head's workspace, MB", memory, lambda v: v <= 600, "≤ 600 MB"),
        target("Llama-2-7B step: speed over HF + PEFT padded to 500", step("7B", "hf-peft-pad500"), lambda v: v >= 6, "≥ 6×"),
        target("Llama-2-7B step: speed over HF + PEFT padding-free", step("7B", "hf-peft-packed"), lambda v: v >= 1.5, "≥ 1.5×"),
    ]


def cell(value, pattern):
    return "" if value is None else format(value, pattern)


def table(entries, first):
    lines = [
        f"| {first} | provider | ms | quartiles | TFLOP/s | peak MB | error | launches | graph | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for e in entries:
        quartiles = e.get("ms_quartiles")
        words = "" if e["status"] == "timed" else f"{e['status']}: {e.get('why', '')}"
        graph = {True: "yes", False: "no"}.get(e.get("graph"), "")
        lines.append(
            f"| {e['case']} | {e['provider']} | {cell(e.get('ms_median'), '.3f')} | {'' if quartiles is None else f'{quartiles[0]:.3f} to {quartiles[1]:.3f}'} | "
            f"{cell(e.get('tflop_per_s'), '.1f')} | {cell(None if e.get('peak_bytes') is None else e['peak_bytes'] / 1e6, '.0f')} | {cell(e.get('error'), '.1e')} | "
            f"{cell(e.get('launches'), 'd')} | {graph} | {words} |"
        )
    return lines


def page(document):
    lines = [
        "# Lethe beside its peers",
        "",
        f"Device {json.dumps(document['device'])}, torch {document['torch']}. Commit {document['commit']}, {document['date']}, `{document['command']}`.",
        "",
        "Everyone gets the same tensors; gradients are held to double precision on sampled rows before anything is timed; then all take turns. ms: the",
        "median of the rounds. Peak: above the inputs. INEXACT: the gradient is further off than bf16 logits excuse; such a peer is no yardstick.",
        "",
    ]
    if document["targets"]:
        lines += ["| asked for | wanted | worst found | verdict |", "|---|---|---|---|"]
        lines += [f"| {t['target']} | {t['wanted']} | {cell(t['found'], '.3g')} | {t['verdict']} |" for t in document["targets"]]
        lines.append("")
    lines += [f"- ABSENT: {name}: {why}" for name, why in document["absent"].items()]
    lines += [f"- NOT RUN: {name}: {why}" for name, why in document["not_run"].items()]
    lines += ["", "| case | Lethe ms | of the fastest exact peer within 2 GB | of the fastest of all |", "|---|---|---|---|"]
    for r in document["ratios"]:
        words = lambda key: f"{r[f'ratio_{key}']:.2f}× {r[f'fastest_{key}']}" if f"ratio_{key}" in r else ""
        lines.append(f"| {r['family']} {r['case']} | {cell(r['lethe_ms'], '.3f')} | {words('bounded')} | {words('any')} |")
    for family in ("head", "linear", "optimizer", "step"):
        entries = [e for e in document["results"] if e["family"] == family]
        if entries:
            lines += ["", f"## {family}", "", *table(entries, "case")]
    return "\n".join(lines) + "\n"


def write(prefix, document):
    document["ratios"] = add_ratios(document["results"])
    document["targets"] = judge(document["results"], document["ratios"], document["cuda"])
    prefix = Path(prefix)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, ensure_ascii=False).replace("}, {", "},\n{").replace("[{", "[\n{")
    for ending, content in ((".json", text + "\n"), (".md", page(document))):
        # In one step: whoever is killed while it writes leaves the file that was there before.
        part = Path(f"{prefix}{ending}.part")
        part.write_text(content, encoding="utf-8")
        part.replace(f"{prefix}{ending}")
