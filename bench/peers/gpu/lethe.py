"""Lethe through lethe.h, on torch's own tensors: nothing is copied, and on a GPU both work on one stream."""

import ctypes
import json
from pathlib import Path

import torch

F32, BF16 = 0, 1
ROW_FIELDS, STATISTICS = 5, 13
NLL, UNIFORM_KL, REFERENCE_KL = 1, 2, 4
LSE, LABEL, LSE_OTHERS, MEAN, KL = 0, 1, 2, 3, 8
UPDATE_STATE = 8
DTYPES = {torch.float32: F32, torch.bfloat16: BF16}


class LetheError(RuntimeError):
    """A call answered that it failed; the text is Lethe's own trace."""


class Engine:
    """One open device. `plugins` is the folder of liblethe.so and its backends."""

    def __init__(self, plugins, backend, threads=1):
        self.library = ctypes.CDLL(str(Path(plugins) / "liblethe.so"))
        self.library.lethe_error_trace.restype = ctypes.c_char_p
        self.handle = ctypes.c_void_p()
        self.call("engine_open", backend.encode(), str(plugins).encode(), ctypes.c_int32(threads), ctypes.byref(self.handle), engine=False)
        text = ctypes.create_string_buffer(1024)
        self.call("engine_describe", text, ctypes.c_int64(1024))
        self.description = json.loads(text.value)
        self.refs = {}

    def call(self, name, *arguments, engine=True):
        """Numbers go as int64 unless a ctypes type says otherwise; tensors as their buffers."""
        words = [self.argument(a) for a in arguments]
        status = getattr(self.library, "lethe_" + name)(*([self.handle] if engine else []), *words)
        if status != 0:
            raise LetheError(self.library.lethe_error_trace().decode())

    def argument(self, value):
        if isinstance(value, torch.Tensor):
            return ctypes.c_uint64(self.wrap(value))
        if isinstance(value, float):
            return ctypes.c_float(value)
        if isinstance(value, int):
            return ctypes.c_int64(value)
        return ctypes.c_uint64(0) if value is None else value

    def wrap(self, tensor):
        """The buffer of a tensor's storage, remembered until `forget`, and the tensor's place in it."""
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address not in self.refs:
            ref = ctypes.c_uint64()
            self.call("buffer_wrap", ctypes.c_void_p(address), ctypes.c_int64(storage.nbytes()), ctypes.byref(ref))
            # The storage is held so that its address is not given to another tensor meanwhile.
            self.refs[address] = (ref.value, storage)
        return self.refs[address][0] + tensor.data_ptr() - address

    def forget(self):
        """Forgets all tensors; what was asked of them is done before."""
        self.synchronize()
        for ref, _ in self.refs.values():
            self.call("buffer_free", ctypes.c_uint64(ref))
        self.refs.clear()

    def synchronize(self):
        self.call("synchronize")

    def use_stream(self, stream):
        self.call("use_stream", ctypes.c_void_p(stream.cuda_stream))

    def launches(self, work):
        """Kernels and products that `work` launches; None where the backend does not write them down."""
        try:
            self.call("record_launches", ctypes.c_int32(1))
        except LetheError:
            return None
        work()
        needed = ctypes.c_int64()
        self.call("launches", None, ctypes.c_int64(0), ctypes.byref(needed))
        text = ctypes.create_string_buffer(needed.value)
        self.call("launches", text, ctypes.c_int64(needed.value), ctypes.byref(needed))
        self.call("record_launches", ctypes.c_int32(0))
        lines = text.value.decode().splitlines()
        return sum('"kernel":' in line or '"gemm":' in line for line in lines)

    def close(self):
        self.forget()
        self.call("engine_close")


def dtype_of(tensor):
    return ctypes.c_int32(DTYPES[tensor.dtype])


def head_workspace(engine, like, rows, vocabulary, most_bytes):
    """A workspace tensor as a training takes it: within `most_bytes` unless the head cannot run with that."""
    least, most = ctypes.c_int64(), ctypes.c_int64()
    engine.call("head_workspace", dtype_of(like), rows, like.shape[1], vocabulary, ctypes.byref(least), ctypes.byref(most))
    size = max(least.value, min(most.value, most_bytes))
    return torch.empty(size, dtype=torch.uint8, device=like.device)
