"""Lethe's head: one pass over the rows that count, coefficients on the host from its statistics, as a training step makes them."""



import numpy as np
import torch

from exact import coefficients
from lethe import LABEL, LSE_OTHERS, NLL, REFERENCE_KL, ROW_FIELDS, STATISTICS, UNIFORM_KL, Engine, dtype_of, head_workspace
from provider import Provider

KINDS = {"me": UNIFORM_KL, "kl": REFERENCE_KL}
GPU_WORKSPACE, CPU_WORKSPACE = 600_000_000, 32_000_000


class Own(Provider):
    name = "lethe"
    kind = "lethe"

    def __init__(self, engine: Engine):
        self.engine = engine

    def prepare(self, case, inputs):
        return _Pass(self.engine, case, inputs)


class _Pass:
    """Buffers of one case; a call gives dh of all rows."""

    def __init__(self, engine, case, inputs):
        self.engine, self.inputs, self.parts = engine, inputs, inputs.parts(case.loss)
        shape, device = inputs.shape, inputs.device
        rows, self.references = [], 0
        for part in self.parts:
            kind = KINDS.get(part.kind, NLL)
            for i in inputs.valid[part.begin : part.end].nonzero().flatten().tolist():
                source = part.begin + i
                reference = shape.n + source if kind == REFERENCE_KL else -1
                rows.append((source, int(inputs.y[source]), kind, reference, -1))
                self.references += kind == REFERENCE_KL
        self.n = len(rows)
        table = np.array(rows, dtype=np.int32).reshape(self.n, ROW_FIELDS)
        self.sources = torch.from_numpy(table[:, 0].astype(np.int64))
        self.rows = torch.from_numpy(table).to(device)
        self.mean = torch.empty(shape.d, device=device)
        self.stats = torch.empty(self.n, STATISTICS, device=device)
        self.rows_gradient = torch.empty(self.n, shape.d, dtype=inputs.w.dtype, device=device)
        self.coefficient = torch.empty(self.n, device=device)
        self.dh = torch.empty(shape.n, shape.d, dtype=inputs.w.dtype, device=device)
        most = GPU_WORKSPACE if device.type == "cuda" else CPU_WORKSPACE
        self.workspace = head_workspace(engine, inputs.w, self.n, shape.v, most)
        self.host = _HostSide(inputs)
        engine.call("head_mean", dtype_of(inputs.w), shape.d, shape.v, inputs.w, self.mean)

    def passes(self):
        """What goes to the device, without the host's part in between."""
        self.forward()
        self.combine()

    def forward(self):
        s, i = self.inputs.shape, self.inputs
        self.engine.call(
            "head_forward", dtype_of(i.w), self.n, 2 * s.n, s.d, s.v, self.references, 0, i.h2, i.w, None, float(s.soft_cap),
            None if s.soft_cap else self.mean, self.rows, None, self.stats, self.rows_gradient, self.workspace, self.workspace.numel(),
        )  # fmt: skip

    def combine(self):
        s = self.inputs.shape
        self.engine.call("head_combine", dtype_of(self.inputs.w), self.n, s.n, s.d, self.rows, self.coefficient, self.rows_gradient, self.dh)

    def __call__(self):
        self.forward()
        stats = self.stats.cpu() if self.inputs.device.type == "cuda" else self.stats
        others, label = stats[:, LSE_OTHERS].double(), stats[:, LABEL].double()
        nll = torch.zeros(self.inputs.shape.n, dtype=torch.float64)
        nll[self.sources] = torch.nn.functional.softplus(others - label)
        c = torch.cat([self.host.coefficients(part, nll) for part in self.parts])[self.sources]
        self.coefficient.copy_(c.float(), non_blocking=True)
        self.combine()
        return self.dh


class _HostSide:
    """The parts of the inputs that coefficients need, on the host."""

    def __init__(self, inputs):
        self.valid, self.segment = inputs.valid.cpu(), inputs.segment.cpu()
        self.reference_nll = inputs.reference_nll.cpu()
        self.inputs = inputs

    def sums(self, per_row, part):
        out = torch.zeros(part.last - part.first, dtype=per_row.dtype)
        return out.index_add(0, self.segment[part.begin : part.end] - part.first, per_row)

    def counts(self, part):
        return self.sums(self.valid[part.begin : part.end].double(), part)

    def coefficients(self, part, nll):
        return coefficients(part, self, self.sums(nll[part.begin : part.end], part))


def open_engine(plugins, device, threads):
    """The engine on torch's device and, on a GPU, on torch's current stream."""
    backend = f"cuda:{device.index or 0}" if device.type == "cuda" else "cpu"
    engine = Engine(plugins, backend, threads)
    if device.type == "cuda":
        engine.use_stream(torch.cuda.current_stream())
    return engine


