"""The head's cases: everyone is held to the exact gradient, then all take turns."""

import torch

import cce
import eager
import exact
import liger
import materialised
from cases import IGNORED, LOSSES, SHAPES, Case, Inputs
from measure import summary
from provider import Absent, Unsupported

LOADERS = {
    "torch": eager.load,
    "liger": liger.load,
    "cce": cce.load,
    "flash-attn": materialised.load,
    "efficient_cross_entropy": materialised.load_efficient,
}
# |g - exact| / |exact| of Lethe: two units of bf16 storage; of a divergence from a reference what is asked for. In fp32: sums of products.
OWN_BOUND = {torch.bfloat16: 2**-7, torch.float32: 1e-4}
OWN_KL_BOUND = {torch.bfloat16: 0.015, torch.float32: 1e-3}
# Peers round logits to bf16, and add up in it; beyond this a peer computes the loss inexactly, and is no yardstick of speed.
PEER_BOUND = 2**-5
# Beyond this it is another loss: the call is wrong, and so is the comparison. A divergence's gradient may be all noise.
WRONG = 0.25
# Seconds: torch's losses of single rows, Liger's chunked ones.
COMPILING = {"GD": 15, "ME": 15, "KL": 15, "DPO-IDK": 15}


def plan(tiny):
    """[(case, seconds it may take)], the most telling first."""
    if tiny:
        cases = [Case(SHAPES["tiny"], loss) for loss in LOSSES]
        cases += [Case(SHAPES["tiny"], loss, "flat", 0.25) for loss in ("GD", "ME", "NPO+KL", "ME+AP")]
        return [(c, 1) for c in cases + [Case(SHAPES["tiny-capped"], loss) for loss in ("GD", "KL", "ME+AP")]]
    first = [Case(SHAPES[s], loss) for s in ("S1", "S2") for loss in ("ME", "GD", "NPO", "KL", "AP", "DPO-IDK", "ME+GD", "NPO+KL")]
    second = [Case(SHAPES["S3"], loss) for loss in ("ME", "GD", "NPO", "KL")] + [Case(SHAPES["tofu"], loss) for loss in ("ME+GD", "NPO", "KL")]
    third = [Case(SHAPES["S2"], loss, "flat", 0.25) for loss in ("ME", "NPO", "KL")] + [Case(SHAPES["S1"], loss) for loss in ("SimNPO", "NPO+GD", "ME+AP")]
    rest = [Case(SHAPES[s], loss) for s in ("S4", "S5", "S6", "S7", "S8") for loss in ("GD", "ME", "NPO", "KL")]
    return [(c, (9 if c.shape.v > 100_000 else 5) + COMPILING.get(c.loss, 0)) for c in first + second + third + rest]


class HeadBench:
    def __init__(self, options, meter, own):
        self.options, self.meter, self.own = options, meter, own
        self.dtype = torch.float32 if options.dtype == "fp32" else torch.bfloat16
        self.peers, self.absent = [], {}
        for name, load in LOADERS.items():
            try:
                self.peers += load(options)
            except Absent as e:
                self.absent[name] = str(e)
            except Exception as e:  # noqa: BLE001 - whatever a peer's import raises, it is absent and says why
                self.absent[name] = f"cannot be imported: {type(e).__name__}: {e}"
        self.made = None

    def inputs(self, case):
        key = (case.shape, case.data, case.valid)
        if self.made is None or self.made[0] != key:
            self.made = None
            self.forget()
            inputs = Inputs(case.shape, case.data, case.valid, self.options.device, self.dtype)
            assert (inputs.y == IGNORED).sum() == (~inputs.valid).sum()
            self.made = (key, inputs, exact.Exact(inputs))
        return self.made[1:]

    def forget(self):
        self.own.engine.forget()
        if self.meter.cuda:
            torch.cuda.empty_cache()

    def run(self, case, seconds):
        inputs, truth = self.inputs(case)
        entries, calls = [], {}
        for provider in [self.own, *self.peers]:
            if self.options.providers and provider.name not in self.options.providers and provider.kind != "lethe":
                continue
            entry = dict(family="head", case=case.name(), shape=case.shape.name, loss=case.loss, data=case.data, valid=case.valid)
            entry.update(n=case.shape.n, d=case.shape.d, V=case.shape.v, provider=provider.name)
            entries.append(entry)
            call = self.checked(provider, case, inputs, truth, entry)
            if call is not None:
                calls[provider.name] = call
        taken = self.meter.rounds(calls, self.options.rounds, seconds / 2)
        for entry in entries:
            if entry["provider"] in taken:
                entry.update(summary(taken[entry["provider"]]))
                entry["launches"] = self.launches(entry["provider"], calls[entry["provider"]])
                entry["tflop_per_s"] = self.flops(case, inputs) / entry["ms_median"] / 1e9
        self.own.engine.forget()
        return entries

    def checked(self, provider, case, inputs, truth, entry):
        """The provider's call when its gradient is right, or None; the entry says what it was."""
        dtype = self.dtype
        try:
            state = {}

            def first():
                state["call"] = provider.prepare(case, inputs)
                return state["call"]()

            gradient, entry["peak_bytes"] = self.meter.peak(first)
            if provider.kind == "lethe":
                provider.engine.synchronize()
                entry["workspace_bytes"] = state["call"].workspace.numel()
            found, part = exact.error(truth, inputs.parts(case.loss), gradient)
        except Unsupported as e:
            entry.update(status="UNSUPPORTED", why=str(e))
            return None
        except torch.cuda.OutOfMemoryError:
            entry.update(status="OUT OF MEMORY", why="does not fit the device")
            return None
        except Exception as e:  # noqa: BLE001 - a peer that fails is told, not the end of the run
            entry.update(status="FAILED", why=f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}")
            return None
        own = provider.kind == "lethe"
        bound = (OWN_KL_BOUND if part == "kl" else OWN_BOUND)[dtype] if own else PEER_BOUND
        entry.update(error=found, error_of=part, bound=bound)
        if found <= bound:
            entry["status"] = "timed"
        elif own or (part != "kl" and not found <= WRONG):
            entry.update(status="WRONG", why=f"its gradient of {part} is {found:.2g} off")
            return None
        else:
            entry.update(status="INEXACT", why=f"its gradient of {part} is {found:.2g} off")
        return state["call"]

    def launches(self, name, call):
        if name == self.own.name:
            return self.own.engine.launches(call)
        return self.meter.launches(call)

    def flops(self, case, inputs):
        """4NdV over the rows that count, 6NdV for those with a reference."""
        s = case.shape
        products = sum((3 if p.kind == "kl" else 2) * int(inputs.valid[p.begin : p.end].sum()) for p in inputs.parts(case.loss))
        return 2.0 * products * s.d * s.v
