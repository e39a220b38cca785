"""Times of calls that take turns, peak memory above what was there before, launches."""

import statistics
import time

import torch

FLUSHED_BYTES = 256 << 20


class Meter:
    def __init__(self, device):
        self.device = torch.device(device)
        self.cuda = self.device.type == "cuda"
        self.flush = torch.empty(FLUSHED_BYTES if self.cuda else 1, dtype=torch.uint8, device=self.device)

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()

    def peak(self, make):
        """(what make() returns, bytes at most above what was allocated before): torch's allocator, and what others took of the device.

        None for the bytes on the CPU, whose allocator does not tell.
        """
        if not self.cuda:
            return make(), None
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before, reserved, free = torch.cuda.memory_allocated(), torch.cuda.memory_reserved(), torch.cuda.mem_get_info()[0]
        result = make()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        foreign = (free - torch.cuda.mem_get_info()[0]) - (torch.cuda.memory_reserved() - reserved)
        return result, peak + max(0, foreign)

    def once(self, call):
        """Milliseconds of a call that finds the caches cold."""
        self.flush.zero_()
        if self.cuda:
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            call()
            stop.record()
            stop.synchronize()
            return start.elapsed_time(stop)
        begin = time.perf_counter()
        call()
        return (time.perf_counter() - begin) * 1e3

    def rounds(self, calls, most_rounds, most_seconds):
        """{name: [ms]}: every round runs each call once, the first of a round another one each time."""
        names = [*calls]
        taken = {name: [] for name in names}
        for name in names:
            calls[name]()
        begin = time.perf_counter()
        for i in range(most_rounds):
            if i >= 3 and time.perf_counter() - begin > most_seconds:
                break
            for k in range(len(names)):
                name = names[(i + k) % len(names)]
                taken[name].append(self.once(calls[name]))
        return taken

    def launches(self, call):
        """Kernels of one call as the profiler sees them; None on the CPU."""
        if not self.cuda:
            return None
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            call()
            torch.cuda.synchronize()
        kernels = [e for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        return sum(not e.name.startswith(("Memcpy", "Memset")) for e in kernels)


def summary(ms):
    ordered = sorted(ms)
    quarter = statistics.quantiles(ordered, n=4) if len(ordered) > 1 else [ordered[0]] * 3
    return dict(ms_median=statistics.median(ordered), ms_least=ordered[0], ms_most=ordered[-1], ms_quartiles=[quarter[0], quarter[2]], rounds=len(ms))


def capturable(call):
    """Whether a call can be written into a CUDA graph; to be asked in a process of its own, as a failure may spoil the context.

    Captured on the current stream, which must not be the null one: Lethe works on it, too.
    """
    call()
    torch.cuda.synchronize()
    try:
        with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=torch.cuda.current_stream()):
            call()
        torch.cuda.synchronize()
        return True
    except RuntimeError:
        return False
