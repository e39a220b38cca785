#!/usr/bin/env python3
"""PyTorch's eager losses beside Lethe's head: gradient errors against fp64, then times.

Called by bench/gpu/run peers. --work holds what `kernel_bench head` wrote: for each loss h, w, labels and Lethe's gradient
of the rows at a small shape, raw; --ours is kernel_bench's result of the timed shapes. Eager works as training code does:
logits in bf16 from h and w, F.cross_entropy and its kin on logits.float(), autograd back to h. A loss is timed only where
both gradients agree with fp64 within what bf16 logits and gradients allow. Lethe's times are of the loss and the gradient
of each row together; so are eager's. NPO's gradient is NLL's with another coefficient: its row is NLL's.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

LOSSES = ("ME", "NLL", "NPO", "KL")
SHAPES = ((4096, 4096, 32000), (8192, 4096, 128256))
# Relative to the gradient's norm: logits and the logits' gradient are rounded to bf16 (half a unit each, 2^-9), and the
# result once more; eager rounds the logits before the softmax. Four units of room.
BOUND = 2**-7


def loss_of(name, z, labels, reference):
    """The sum over rows of what Lethe's row kinds are the gradients of."""
    if name in ("NLL", "NPO"):
        return F.cross_entropy(z, labels, reduction="sum")
    log_p = F.log_softmax(z, dim=-1)
    if name == "ME":
        return -log_p.mean(dim=-1).sum()
    return F.kl_div(log_p, F.log_softmax(reference, dim=-1), log_target=True, reduction="sum")


def eager(name, h, w, labels, reference_h):
    h = h.detach().requires_grad_()
    reference = None if reference_h is None else (reference_h @ w.T).float()
    loss_of(name, (h @ w.T).float(), labels, reference).backward()
    return h.grad


def exact(name, h, w, labels, reference_h):
    h = h.double().detach().requires_grad_()
    w = w.double()
    loss_of(name, h @ w.T, labels, None if reference_h is None else reference_h.double() @ w.T).backward()
    return h.grad


def relative_error(x, want):
    return ((x.double() - want).norm() / want.norm()).item()


def checked(work, name, device):
    """Errors of Lethe's and eager's gradients at the small shape."""
    kind = "NLL" if name == "NPO" else name
    sizes = json.loads((work / f"{kind}.json").read_text())
    n, d, v = sizes["n"], sizes["d"], sizes["V"]

    def bf16(part, rows):
        raw = bytearray((work / f"{kind}.{part}").read_bytes())
        return torch.frombuffer(raw, dtype=torch.bfloat16).reshape(rows, -1).to(device)

    h, w, ours = bf16("h", sizes["sources"]), bf16("w", v), bf16("dh", n)
    labels = torch.tensor(sizes["labels"], device=device)
    reference = h[n:] if kind == "KL" else None
    want = exact(kind, h[:n], w, labels, reference)
    assert ours.shape == (n, d)
    return relative_error(ours, want), relative_error(eager(kind, h[:n], w, labels, reference), want)


def median_ms(work, times=20):
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    taken = []
    for i in range(-3, times):
        start.record()
        work()
        stop.record()
        stop.synchronize()
        if i >= 0:
            taken.append(start.elapsed_time(stop))
    return statistics.median(taken)


def timed(name, n, d, v, device):
    generator = torch.Generator(device).manual_seed(1)
    h = torch.randn(n, d, generator=generator, device=device, dtype=torch.bfloat16)
    w = 0.02 * torch.randn(v, d, generator=generator, device=device, dtype=torch.bfloat16)
    labels = torch.randint(v, (n,), generator=generator, device=device)
    reference = torch.randn(n, d, generator=generator, device=device, dtype=torch.bfloat16) if name == "KL" else None
    torch.cuda.reset_peak_memory_stats()
    ms = median_ms(lambda: eager(name, h, w, labels, reference))
    return ms, torch.cuda.max_memory_allocated()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("work", "ours", "device", "commit", "date", "command", "prefix"):
        parser.add_argument("--" + option, required=True)
    a = parser.parse_args()
    device = torch.device("cuda")
    ours = {(r["name"], r["shape"]): r for r in json.loads(Path(a.ours).read_text())["results"]}
    results, wrong = [], False
    for name in LOSSES:
        own_error, eager_error = checked(Path(a.work), name, device)
        good = own_error <= BOUND and eager_error <= 4 * BOUND
        wrong |= not good
        for n, d, v in SHAPES:
            row = dict(loss=name, n=n, d=d, V=v, error=own_error, eager_error=eager_error, bound=BOUND)
            results.append(row)
            if not good:
                row["status"] = "wrong"
                continue
            own = ours[(f"head {'NLL' if name == 'NPO' else name}", f"{n} rows, d {d}, V {v}")]
            row["ms"] = own.get("ms_median")
            try:
                row["eager_ms"], row["eager_bytes"] = timed(name, n, d, v, device)
                row["status"] = "timed"
            except torch.cuda.OutOfMemoryError:
                row["status"] = "ABSENT: eager does not fit"
            torch.cuda.empty_cache()
    document = dict(what="peers", device=json.loads(a.device), commit=a.commit, date=a.date, command=a.command,
                    torch=torch.__version__, results=results)
    Path(a.prefix + ".json").write_text(json.dumps(document, indent=1) + "\n")
    lines = [f"# The head beside PyTorch's eager losses\n\nDevice {a.device}. Commit {a.commit}, {a.date}, `{a.command}`, torch "
             f"{torch.__version__}.\nErrors of the rows' gradients against fp64 at a small shape, relative to their norm (bound "
             f"{BOUND:.2g}); medians of 20.\n\n| loss | shape | error | eager's | ms | eager ms | eager's peak GB | |\n"
             "|---|---|---|---|---|---|---|---|\n"]
    for r in results:
        times = [f"{r[k] / s:.2f}" if r.get(k) is not None else "" for k, s in (("ms", 1), ("eager_ms", 1), ("eager_bytes", 1e9))]
        lines.append(f"| {r['loss']} | {r['n']} x {r['d']} x {r['V']} | {r['error']:.1e} | {r['eager_error']:.1e} | "
                     + " | ".join(times) + f" | {r['status']} |\n")
    Path(a.prefix + ".md").write_text("".join(lines))
    print("".join(lines[1:]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
