"""LoRA linears, forward and backward: PEFT's layer, the same compiled, an in-place form as Unsloth describes its own, and Lethe's."""

import ctypes

import torch

from lethe import dtype_of
from measure import summary

SAMPLED_ROWS = 256
BOUND = {torch.bfloat16: 2**-7, torch.float32: 1e-4}
PEER_BOUND = 2**-5
SCALE = 2.0


def plan(tiny):
    """[((tokens, in, out, rank), seconds)]"""
    if tiny:
        return [((37, 64, 48, 4), 1)]
    shapes = [(4096, 4096), (4096, 14336), (2048, 8192), (14336, 4096), (4096, 1024)]
    first = [(2048, k, n, 8) for k, n in shapes]
    rest = [(t, k, n, r) for t in (8192, 512) for k, n in shapes for r in (16, 64)]
    return [(c, 4) for c in first + rest]


class Data:
    """x, frozen w, adapter a and b, upstream gradient, and the results in double precision."""

    def __init__(self, case, device, dtype):
        self.tokens, self.inner, self.outer, self.rank = case
        generator = torch.Generator(device).manual_seed(3)
        normal = lambda *size, by=1.0: (by * torch.randn(*size, generator=generator, device=device)).to(dtype)
        self.x, self.dy = normal(self.tokens, self.inner), normal(self.tokens, self.outer)
        self.w, self.a = normal(self.outer, self.inner, by=0.02), normal(self.rank, self.inner, by=0.02)
        self.b = normal(self.outer, self.rank, by=0.02)
        x, dy, a, b = (t.double() for t in (self.x, self.dy, self.a, self.b))
        self.rows = torch.randperm(self.tokens, generator=torch.Generator().manual_seed(5))[:SAMPLED_ROWS].to(device)
        u, t = x @ a.T, dy @ b
        w = self.w.double()
        self.want = dict(
            y=x[self.rows] @ w.T + SCALE * u[self.rows] @ b.T,
            dx=dy[self.rows] @ w + SCALE * t[self.rows] @ a,
            da=SCALE * t.T @ x,
            db=SCALE * dy.T @ u,
        )

    def error(self, y, dx, da, db):
        found = dict(y=y[self.rows], dx=dx[self.rows], da=da, db=db)
        errors = {k: ((found[k].double() - want).norm() / want.norm()).item() for k, want in self.want.items()}
        worst = max(errors, key=errors.get)
        return errors[worst], worst


class InPlace(torch.autograd.Function):
    """One product and an in-place product on top of it; x A^T is computed again in the backward pass, the adapter's part of dx in place."""

    @staticmethod
    def forward(ctx, x, w, a, b):
        ctx.save_for_backward(x, w, a, b)
        y = x @ w.T
        return y.addmm_(x @ a.T, b.T, alpha=SCALE)

    @staticmethod
    def backward(ctx, dy):
        x, w, a, b = ctx.saved_tensors
        t = dy @ b
        db = (dy.T @ (x @ a.T)).mul_(SCALE)
        da = (t.T @ x).mul_(SCALE)
        dx = (dy @ w).addmm_(t, a, alpha=SCALE)
        return dx, None, da, db


class LinearBench:
    def __init__(self, options, meter, engine):
        self.options, self.meter, self.engine = options, meter, engine
        self.dtype = torch.float32 if options.dtype == "fp32" else torch.bfloat16
        self.absent, self.linears = {}, []
        try:
            import peft  # noqa: F401
        except ImportError as e:
            self.absent["peft"] = f"cannot be imported: {e}"

    def makers(self):
        makers = {"lethe": self.own, "unsloth-style": self.in_place}
        if "peft" not in self.absent:
            makers["peft"] = self.peft
            if self.meter.cuda:
                makers["peft-compile"] = lambda data: self.peft(data, compiled=True)
        return makers

    def run(self, case, seconds):
        data = Data(case, self.meter.device, self.dtype)
        entries, calls = [], {}
        for name, make in self.makers().items():
            entry = dict(family="linear", case="{}x{}to{}/r{}".format(*case), provider=name)
            entries.append(entry)
            state = {}

            def first():
                state["call"] = make(data)  # noqa: B023 - called at once
                return state["call"]()

            try:
                results, entry["peak_bytes"] = self.meter.peak(first)
            except Exception as e:  # noqa: BLE001 - a peer that fails is told
                entry.update(status="FAILED", why=f"{type(e).__name__}: {e}")
                continue
            self.engine.synchronize()
            entry["error"], entry["error_of"] = data.error(*results)
            entry["bound"] = BOUND[self.dtype] if name == "lethe" else PEER_BOUND
            good = entry["error"] <= entry["bound"]
            entry.update(status="timed" if good else "WRONG", why="" if good else f"{entry['error_of']} is {entry['error']:.2g} off")
            if good:
                calls[name] = state["call"]
        taken = self.meter.rounds(calls, self.options.rounds, seconds / 2)
        for entry in entries:
            if entry["provider"] in taken:
                entry.update(summary(taken[entry["provider"]]))
                call = calls[entry["provider"]]
                entry["launches"] = self.engine.launches(call) if entry["provider"] == "lethe" else self.meter.launches(call)
                tokens, inner, outer, rank = case
                entry["tflop_per_s"] = tokens * (4 * inner * outer + 6 * rank * (inner + outer)) / entry["ms_median"] / 1e9
        while self.linears:
            self.engine.call("linear_close", self.linears.pop())
        self.engine.forget()
        return entries

    def own(self, d):
        engine, dtype = self.engine, dtype_of(d.w)
        new = lambda *size, dtype=self.dtype: torch.zeros(*size, dtype=dtype, device=self.meter.device)
        y, dx = new(d.tokens, d.outer), new(d.tokens, d.inner)
        u, du = new(d.tokens, d.rank), new(d.tokens, d.rank)
        gradients = new(d.rank * (d.inner + d.outer), dtype=torch.float32)
        da, db = gradients[: d.rank * d.inner].view(d.rank, d.inner), gradients[d.rank * d.inner :].view(d.outer, d.rank)
        linear = ctypes.c_uint64()
        engine.call("linear_create", dtype, d.outer, d.inner, d.w, None, None, None, ctypes.byref(linear))
        self.linears.append(linear)
        engine.call("linear_adapter", linear, 0, d.outer, d.rank, SCALE, 0.0, ctypes.c_uint64(0), d.a, d.b, da, db)

        def call():
            engine.call("zero", gradients, gradients.numel() * 4)
            engine.call("linear_forward", linear, d.tokens, d.tokens, d.x, None, y, None, u)
            engine.call("linear_backward", linear, d.tokens, d.x, u, d.dy, None, du, dx)
            return y, dx, da, db

        return call

    def in_place(self, d):
        def call():
            x, a, b = (t.detach().requires_grad_() for t in (d.x, d.a, d.b))
            y = InPlace.apply(x, d.w, a, b)
            y.backward(d.dy)
            return y.detach(), x.grad, a.grad, b.grad

        return call

    def peft(self, d, compiled=False):
        from peft import LoraConfig, inject_adapter_in_model

        base = torch.nn.Sequential()
        base.add_module("linear", torch.nn.Linear(d.inner, d.outer, bias=False, device=self.meter.device, dtype=self.dtype))
        base.linear.weight = torch.nn.Parameter(d.w, requires_grad=False)
        config = LoraConfig(r=d.rank, lora_alpha=SCALE * d.rank, lora_dropout=0.0, target_modules=["linear"])
        model = inject_adapter_in_model(config, base).to(self.meter.device, self.dtype)
        a, b = model.linear.lora_A["default"].weight, model.linear.lora_B["default"].weight
        a.data.copy_(d.a)
        b.data.copy_(d.b)
        forward = torch.compile(model, dynamic=False) if compiled else model

        def call():
            x = d.x.detach().requires_grad_()
            a.grad = b.grad = None
            y = forward(x)
            y.backward(d.dy)
            return y.detach(), x.grad, a.grad, b.grad

        return call
