"""The update of Llama-2-7B's adapters: torch.optim.AdamW(fused) with clip_grad_norm_ over 448 tensors, and Lethe's over one arena."""

import ctypes

import torch

from lethe import BF16, UPDATE_STATE
from measure import summary

RATE, BETAS, EPS, DECAY, MOST_NORM = 1e-4, (0.9, 0.999), 1e-8, 0.01, 1.0
# Of the movement: p is fp32 near 0.02, where a unit is 1e-9; a step is 1e-4.
BOUND = 1e-3


def sizes(tiny):
    layers, rank, wide, d = (2, 4, 96, 64) if tiny else (32, 8, 11008, 4096)
    layer = [(rank, d), (d, rank)] * 4 + [(rank, d), (wide, rank)] * 2 + [(rank, wide), (d, rank)]
    return layer * layers


class OptimizerBench:
    def __init__(self, options, meter, engine):
        self.options, self.meter, self.engine = options, meter, engine

    def run(self, seconds):
        device = self.meter.device
        shapes = sizes(self.options.tiny)
        n = sum(a * b for a, b in shapes)
        generator = torch.Generator(device).manual_seed(9)
        start = 0.02 * torch.randn(n, generator=generator, device=device)
        gradient = 0.01 * torch.randn(n, generator=generator, device=device)
        clipped = gradient.double() * min(1.0, MOST_NORM / (gradient.double().norm().item() + 1e-6))
        # The first step: the moments' corrections make them g and g^2.
        moved = -RATE * (clipped / (clipped.abs() + EPS) + DECAY * start.double())
        entries, calls = [], {}
        for name, make in (("lethe", self.own), ("torch-adamw", self.torch)):
            (call, after), peak = self.meter.peak(lambda make=make: make(shapes, start, gradient))
            error = ((after().double() - start.double() - moved).norm() / moved.norm()).item()
            good = error <= BOUND
            entry = dict(family="optimizer", case=f"{len(shapes)} tensors", provider=name, peak_bytes=peak, error=error, bound=BOUND)
            entry.update(status="timed" if good else "WRONG", why="" if good else f"the movement is {error:.2g} off")
            entries.append(entry)
            if good:
                calls[name] = call
        taken = self.meter.rounds(calls, self.options.rounds, seconds / 2)
        for entry in entries:
            if entry["provider"] in taken:
                entry.update(summary(taken[entry["provider"]]))
                call = calls[entry["provider"]]
                entry["launches"] = self.engine.launches(call) if entry["provider"] == "lethe" else self.meter.launches(call)
        self.engine.forget()
        return entries

    def own(self, shapes, start, gradient):
        p, g = start.clone(), gradient.clone()
        n = p.numel()
        m, v, state = torch.zeros_like(p), torch.zeros_like(p), torch.zeros(UPDATE_STATE, device=p.device)
        copy = torch.zeros(n, dtype=torch.bfloat16, device=p.device)
        def call():
            self.engine.call("gradient_norm", n, g, MOST_NORM, state)
            self.engine.call("adamw", ctypes.c_int32(BF16), n, n, p, m, v, g, copy, RATE, *BETAS, EPS, DECAY, state)

        call()
        self.engine.synchronize()
        return call, lambda: p

    def torch(self, shapes, start, gradient):
        parameters, at = [], 0
        for a, b in shapes:
            parameter = torch.nn.Parameter(start[at : at + a * b].clone().view(a, b))
            parameter.grad = gradient[at : at + a * b].clone().view(a, b)
            parameters.append(parameter)
            at += a * b
        update = torch.optim.AdamW(parameters, lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY, fused=True)

        def call():
            torch.nn.utils.clip_grad_norm_(parameters, MOST_NORM, foreach=True)
            update.step()

        call()
        after = torch.cat([p.detach().flatten() for p in parameters])
        return call, lambda: after
