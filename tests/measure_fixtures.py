"""The host in place of a GPU, for what of measuring needs no device, and submissions that are honest or cheat.

Buffers are memory files and device time is sleep; processes, sandbox, messages, clocks and grading are the real ones.
"""

import mmap
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from pawl.kernels.measure import ClockReading, Counts, MeasureSettings, Tolerances
from pawl.safety.sandbox import Mount, Sandbox

HOST_MEMORY = b'''
"""The child's end of a memory file."""
import ctypes, time
import torch
from torch.utils._python_dispatch import TorchDispatchMode

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

class Count(TorchDispatchMode):
    launches = 0
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.launches += 1
        return func(*args, **(kwargs or {}))

class HostMemory:
    def reserve(self, size):
        return libc.mmap(None, size, 0, 0x22, -1, 0)
    def map(self, address, size, descriptor):
        assert libc.mmap(address, size, 3, 0x11, descriptor, 0) == address  # shared, at this very address
    def unmap(self, address, size):
        assert libc.mmap(address, size, 0, 0x32, -1, 0) == address
    def tensor(self, address, size, dtype, shape):
        kind = getattr(torch, dtype)
        return torch.frombuffer((ctypes.c_char * size).from_address(address), dtype=kind).view(shape)
    def synchronize(self):
        pass
    def time(self, call):
        begin = time.perf_counter()
        result = call()
        return result, 1e6 * (time.perf_counter() - begin)
    def profile(self, call):
        with Count() as count:
            result, micros = self.time(call)
        return result, micros, micros, count.launches

def open_memory():
    torch.set_num_threads(1)
    with Count():  # torch loads what that needs at the first operator
        torch.nn.functional.layer_norm(torch.zeros(2, 2), (2,)).sum()
    return HostMemory()
'''


class HostBuffer:
    """A memory file."""

    def __init__(self, size: int) -> None:
        self.bytes = size
        self._file = os.memfd_create("buffer")
        os.ftruncate(self._file, size)
        self._map = mmap.mmap(self._file, size)
        self.array = np.frombuffer(self._map, np.uint8)

    def descriptor(self) -> int:
        return os.dup(self._file)

    def poison(self) -> None:
        self.array[:] = 0xFF

    def write(self, offset: int, data: Any) -> None:
        self.array[offset : offset + data.size] = data

    def read(self, offset: int, size: int) -> Any:
        return self.array[offset : offset + size].copy()

    def private_copy(self, offset: int, size: int) -> "HostCopy":
        return HostCopy(self.array[offset : offset + size], np.empty(size, np.uint8))

    def close(self) -> None:
        os.close(self._file)


@dataclass(frozen=True)
class HostCopy:
    source: Any
    data: Any

    def take(self) -> None:
        self.data[:] = self.source

    def read(self) -> Any:
        return self.data


class HostAccelerator:
    """The double of a device."""

    name = "host without a GPU"
    memory_module = "pawl_timed.host_memory"

    def bundle(self) -> dict[str, bytes]:
        return {"pawl_timed/host_memory.py": HOST_MEMORY}

    def mounts(self, sandbox: Sandbox) -> tuple[Mount, ...]:
        return ()

    def allocate(self, size: int) -> HostBuffer:
        return HostBuffer(-(-size // 4096) * 4096)

    def settle(self) -> None:
        pass

    def clocks(self) -> ClockReading:
        return ClockReading(0, 0, False)


HOST_SETTINGS = MeasureSettings(
    counts=Counts(warm_ups=1, timed=7, extra=2, profiled=1, same_pointer=0.5),
    # A host that does other things too wakes up late; what a cheat forges is off by far more.
    tolerances=Tolerances(relative=0.6, absolute_us=8000.0, widest=3.0, apart=1.0),
    call_seconds=20.0,
    memory=6 << 30,
)

BODY = """
import ctypes, gc, os, socket, struct, sys, threading, time
import torch

def trimul(data):
    x, mask, w, config = data
    x = torch.nn.functional.layer_norm(x, x.shape[-1:], w["norm.weight"], w["norm.bias"])
    side = {}
    for name in ("left", "right"):
        gate = (x @ w[name + "_gate.weight"].T).sigmoid()
        side[name] = (x @ w[name + "_proj.weight"].T) * mask[..., None] * gate
    y = torch.einsum("bikd,bjkd->bijd", side["left"], side["right"])
    y = torch.nn.functional.layer_norm(y, y.shape[-1:], w["to_out_norm.weight"], w["to_out_norm.bias"])
    return (y * (x @ w["out_gate.weight"].T).sigmoid()) @ w["to_out.weight"].T
"""
WORK = 0.02
"""Seconds that an honest submission takes on the host."""

HOST_HONEST = (
    BODY
    + f"""
def custom_kernel(data):
    time.sleep({WORK})  # the device's work
    return trimul(data)
"""
)

HOST_CHEATS = {
    "computes in a thread after it has returned": (
        """
def custom_kernel(data):
    out = torch.zeros_like(data[0])
    def later():
        time.sleep(0.02)
        out.copy_(trimul(data))
    threading.Thread(target=later, daemon=True).start()
    return out
""",
        {"wrong-result"},
    ),
    "gathers calls and computes them together at the last": (
        """
waiting = []
def custom_kernel(data):
    waiting.append((data, torch.zeros_like(data[0])))
    if len(waiting) == 8:
        for each, out in waiting:
            out.copy_(trimul(each))
        waiting.clear()
    return waiting[-1][1] if waiting else trimul(data)
""",
        {"wrong-result"},
    ),
    "keeps outputs by the pointer of the input": (
        """
kept = {}
def custom_kernel(data):
    if data[0].data_ptr() not in kept:
        kept[data[0].data_ptr()] = trimul(data)
        time.sleep(0.02)
    return kept[data[0].data_ptr()]
""",
        {"wrong-result"},
    ),
    "keeps outputs by shape, as a replay of captured inputs does": (
        """
kept = {}
def custom_kernel(data):
    return kept.setdefault(data[0].shape, trimul(data))
""",
        {"wrong-result"},
    ),
    "keeps outputs by a few values of the input": (
        """
kept = {}
def custom_kernel(data):
    time.sleep(0.02)
    return kept.setdefault(float(data[1].sum()), trimul(data))
""",
        {"wrong-result"},
    ),
    "stops the timers of its process": (
        """
time.perf_counter = lambda: 0.0
def custom_kernel(data):
    time.sleep(0.02)
    return trimul(data)
""",
        {"clocks-disagree"},
    ),
    "answers for the harness, ahead of the call": (
        """
def custom_kernel(data):
    body = b'{"nonce": "0", "events_us": 1.0, "span_us": null, "kernels": null}'
    for each in gc.get_objects():
        if isinstance(each, socket.socket) and each.family == socket.AF_UNIX:
            try:
                each.send(struct.pack("<Q", len(body)) + body)
            except OSError:
                pass
    return trimul(data)
""",
        {"unreadable"},
    ),
    "zeroes its input and returns zeros": (
        """
def custom_kernel(data):
    out = trimul(data)
    data[0].zero_()
    return out
""",
        {"input-changed"},
    ),
    "writes beyond its input": (
        """
def custom_kernel(data):
    x = data[0]
    ctypes.memset(x.data_ptr() + x.numel() * 4 + 16, 0, 4)
    return trimul(data)
""",
        {"out-of-bounds"},
    ),
    "returns a lazy subclass": (
        """
class Lazy(torch.Tensor):
    pass
def custom_kernel(data):
    return trimul(data).as_subclass(Lazy)
""",
        {"bad-output"},
    ),
    "ends with success before it answers": ("def custom_kernel(data):\n    os._exit(0)\n", {"crash"}),
    "raises at import": ("raise ValueError('no')\n", {"crash"}),
    "doesn't parse": ("def custom_kernel(:\n", {"syntax-error"}),
    "defines nothing": ("x = 1\n", {"no-custom-kernel"}),
    "hangs": ("def custom_kernel(data):\n    time.sleep(1000)\n", {"timeout"}),
    "prints without end": (
        "def custom_kernel(data):\n    while True:\n        print('x' * 100000)\n",
        {"crash"},
    ),
}

HOST_LATE = """
def custom_kernel(data):
    frame = sys._getframe()
    while "output" not in frame.f_locals:  # the harness's tensor in the parent's buffer
        frame = frame.f_back
    output = frame.f_locals["output"]
    def later():
        time.sleep(0.1)
        output.view(-1)[0] += 1e-4
    threading.Thread(target=later, daemon=True).start()
    return trimul(data)
"""

CUDA_HONEST = {
    "plain torch": BODY + "custom_kernel = trimul\n",
    "a joined side stream": BODY
    + """
side = torch.cuda.Stream()
def custom_kernel(data):
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        out = trimul(data)
    torch.cuda.current_stream().wait_stream(side)
    return out
""",
}

CUDA_CHEATS = {
    "a side stream that is not joined": (
        """
side = torch.cuda.Stream()
def custom_kernel(data):
    with torch.cuda.stream(side):
        return trimul(data)
""",
        {"clocks-disagree", "wrong-result", "bad-output"},
    ),
    "a thread that computes after the call": (
        """
def custom_kernel(data):
    out = torch.empty_like(data[0])
    threading.Thread(target=lambda: out.copy_(trimul(data)), daemon=True).start()
    return out
""",
        {"clocks-disagree", "wrong-result", "bad-output"},
    ),
    "outputs kept by pointer": (
        """
kept = {}
def custom_kernel(data):
    key = data[0].data_ptr()
    if key not in kept:
        kept[key] = trimul(data)
    return kept[key]
""",
        {"wrong-result"},
    ),
    "events that tell a hundredth": (
        """
whole = torch.cuda.Event.elapsed_time
torch.cuda.Event.elapsed_time = lambda self, end: whole(self, end) / 100
custom_kernel = trimul
""",
        {"clocks-disagree"},
    ),
    "calls gathered and computed together": (
        """
waiting = []
def custom_kernel(data):
    out = torch.empty_like(data[0])
    waiting.append((data, out))
    if len(waiting) == 8:
        for each, late in waiting:
            late.copy_(trimul(each))
        waiting.clear()
    return out
""",
        {"wrong-result", "bad-output"},
    ),
    "a graph that replays old inputs": (
        """
graphs = {}
def custom_kernel(data):
    key = data[0].shape
    if key not in graphs:
        own = (data[0].clone(), data[1].clone(), {k: v.clone() for k, v in data[2].items()}, data[3])
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            trimul(own)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = trimul(own)
        graphs[key] = (graph, out)
    graph, out = graphs[key]
    graph.replay()
    return out
""",
        {"wrong-result"},
    ),
}
