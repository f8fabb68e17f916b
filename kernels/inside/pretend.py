# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportMissingParameterType=false, reportUnknownParameterType=false
# pyright: reportUnknownLambdaType=false, reportIncompatibleMethodOverride=false, reportAttributeAccessIssue=false
# pyright: reportArgumentType=false
# ruff: noqa: D102
"""Makes a process without a GPU look, to a submission, like one with an H100, so that leaderboard files run unchanged.

`device="cuda"` means the CPU, tensors say that they are on `cuda:0`, `torch.cuda` answers as an H100 would, streams and
events do nothing, and a captured CUDA graph is the list of what it captured. What the pretence lacks is no way around
the verifier: nothing that happens here is graded.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable
from typing import Any

import torch
import triton
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda", 0)
PROPERTIES = {
    "name": "NVIDIA H100 80GB HBM3", "major": 9, "minor": 0, "total_memory": 80 << 30, "multi_processor_count": 132,
    "warp_size": 32, "L2_cache_size": 50 << 20, "max_threads_per_multi_processor": 2048,
    "max_threads_per_block": 1024, "regs_per_multiprocessor": 65_536, "shared_memory_per_block": 49_152,
    "shared_memory_per_block_optin": 232_448, "shared_memory_per_multiprocessor": 233_472, "is_integrated": False,
    "gcnArchName": "", "clock_rate": 1_980_000, "memory_clock_rate": 2_619_000, "memory_bus_width": 5_120,
}  # fmt: skip
"""What `torch.cuda.get_device_properties` says of an H100 SXM."""
_DRIVER_PROPERTIES = {
    "max_shared_mem": 232_448, "max_num_regs": 65_536, "multiprocessor_count": 132, "warpSize": 32,
    "sm_clock_rate": 1_980_000, "mem_clock_rate": 2_619_000, "mem_bus_width": 5_120,
}  # fmt: skip
READS = frozenset({
    "item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "__complex__", "__array__",
    "__contains__", "__repr__", "__format__", "equal", "allclose", "is_nonzero", "cpu", "data_ptr_contents",
})  # fmt: skip
"""Functions that bring values of a tensor to the host."""


class Pretence(TorchFunctionMode):
    """Turns every mention of a CUDA device into the CPU, and tells when values are read."""

    def __init__(self, on_read: Callable[[str], None]) -> None:
        super().__init__()
        self.on_read = on_read

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name == "__get__":
            attribute = getattr(getattr(func, "__self__", None), "__name__", "")
            if attribute in _ATTRIBUTES:
                return _ATTRIBUTES[attribute]
        elif name in READS:
            self.on_read(name)
        if func in _OWN:
            return _OWN[func](*args, **(kwargs or {}))
        args = tuple(_to_cpu(value) for value in args)
        kwargs = {key: _to_cpu(value) for key, value in (kwargs or {}).items()}
        if isinstance(kwargs.get("device"), int) and not isinstance(kwargs["device"], bool):
            kwargs["device"] = "cpu"
        kwargs.pop("pin_memory", None)
        return func(*args, **kwargs)


_ATTRIBUTES: dict[str, Any] = {"device": CUDA, "is_cuda": True, "is_cpu": False}
_OWN: dict[Any, Callable[..., Any]] = {
    torch.Tensor.cuda: lambda self, *args, **kwargs: self,
    torch.Tensor.pin_memory: lambda self, *args, **kwargs: self,
    torch.Tensor.is_pinned: lambda self, *args, **kwargs: False,
    torch.Tensor.get_device: lambda self: 0,
}


def _to_cpu(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu") if value.type == "cuda" else value
    if isinstance(value, str) and (value == "cuda" or value.startswith("cuda:")):
        return "cpu"
    return value


class Stream:
    """A stream, on which everything happens at once."""

    cuda_stream = 0
    device = CUDA

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def wait_stream(self, stream: Any) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass

    def record_event(self, event: Any = None) -> Any:
        return event or Event()

    def query(self) -> bool:
        return True


class Event:
    """An event, which tells no time: there is no GPU to take it on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def record(self, stream: Any = None) -> None:
        pass

    def wait(self, stream: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: Any) -> float:
        return 1.0


class Generator(torch._C.Generator):
    """A generator of the CPU, whatever device is asked for."""

    def __new__(cls, device: Any = None) -> Any:
        return super().__new__(cls)


def _graph(steps: Callable[[], list[Any]]) -> tuple[type, type]:
    class CUDAGraph:
        """What was captured, to be done again."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.captured: list[Any] = []

        def capture_begin(self, *args: Any, **kwargs: Any) -> None:
            self.start = len(steps())

        def capture_end(self) -> None:
            self.captured = steps()[self.start :]
            del steps()[self.start :]

        def replay(self) -> None:
            steps().extend(self.captured)

        def reset(self) -> None:
            self.captured = []

        def pool(self) -> tuple[int, int]:
            return (0, 0)

    class Graph:
        def __init__(self, cuda_graph: Any, *args: Any, **kwargs: Any) -> None:
            self.graph = cuda_graph

        def __enter__(self) -> None:
            self.graph.capture_begin()

        def __exit__(self, *args: object) -> None:
            self.graph.capture_end()

    return CUDAGraph, Graph


class _Utils:
    def get_device_properties(self, device: int = 0) -> dict[str, int]:
        return dict(_DRIVER_PROPERTIES)


class _Driver:
    """What Triton's own host code, and a submission's, asks of the driver."""

    utils = _Utils()

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        pass

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_current_target(self) -> Any:
        return triton.backends.compiler.GPUTarget("cuda", 90, 32)

    def get_active_torch_device(self) -> torch.device:
        return CUDA

    def get_device_interface(self) -> Any:
        return torch.cuda

    def get_empty_cache_for_benchmark(self) -> Any:
        return torch.empty(64 << 20, dtype=torch.int32)

    def clear_cache(self, cache: Any) -> None:
        pass

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        return (9, 0)

    def is_active(self) -> bool:
        return True


def _compiled(enter: Callable[[], None], leave: Callable[[], None]) -> Callable[..., Any]:
    """`torch.compile` that runs the function as it is, and says when a compiled region begins and ends."""

    def compiled(model: Any = None, **options: Any) -> Any:
        if model is None:
            return lambda given: compiled(given, **options)
        if isinstance(model, torch.nn.Module):
            model.forward = compiled(model.forward)
            return model

        def region(*args: Any, **kwargs: Any) -> Any:
            enter()
            try:
                return model(*args, **kwargs)
            finally:
                leave()

        return region

    return compiled


def install(recorder: Any) -> None:
    """Put the pretence in place, for a process that runs one submission and then ends.

    Args:
        recorder: has `steps` (what was done so far, which graphs take from and add to), `enter` and `leave` (a
            compiled region), `tuned(name, configs)` (which of an autotuner's configs to take).
    """
    cuda: Any = torch.cuda
    cuda._lazy_init = lambda: None
    answers = {
        "is_available": True, "is_initialized": True, "device_count": 1, "current_device": 0,
        "get_device_name": PROPERTIES["name"], "get_device_capability": (9, 0), "get_arch_list": ["sm_90"],
        "get_device_properties": types.SimpleNamespace(**PROPERTIES), "mem_get_info": (79 << 30, 80 << 30),
        "memory_allocated": 0, "max_memory_allocated": 0, "memory_reserved": 0, "max_memory_reserved": 0,
        "is_bf16_supported": True, "is_current_stream_capturing": False, "graph_pool_handle": (0, 0),
        "current_stream": Stream(), "default_stream": Stream(),
        **dict.fromkeys(("init", "set_device", "synchronize", "empty_cache", "set_stream", "manual_seed",
                         "manual_seed_all", "reset_peak_memory_stats", "ipc_collect"), None),
    }  # fmt: skip
    for name, value in answers.items():
        setattr(cuda, name, _answering(value))
    for name in ("stream", "device", "device_of"):
        setattr(cuda, name, lambda *args, **kwargs: contextlib.nullcontext())
    cuda.Stream, cuda.ExternalStream, cuda.Event = Stream, Stream, Event
    cuda.CUDAGraph, cuda.graph = _graph(lambda: recorder.steps)
    cuda.nvtx = types.SimpleNamespace(
        range_push=_answering(None), range_pop=_answering(None), range=lambda *a, **k: contextlib.nullcontext()
    )
    torch.Tensor.record_stream = lambda self, stream: None
    torch.compile = _compiled(recorder.enter, recorder.leave)
    torch.jit.script = lambda function=None, *args, **kwargs: function
    torch.version.cuda = "12.8"
    # A GPU allows it unless told otherwise, but the fp32 contract doesn't: only who asks for it is timed and graded so.
    torch.backends.cudnn.allow_tf32 = False
    torch.Generator = Generator
    autocast = torch.amp.autocast_mode.autocast.__init__
    torch.amp.autocast_mode.autocast.__init__ = lambda self, device_type="cpu", *args, **kwargs: autocast(
        self, "cpu", *args, **kwargs
    )
    triton.runtime.driver.set_active(_Driver())
    triton.runtime.autotuner.Autotuner.run = _autotuned(recorder.tuned)
    triton.testing.do_bench = triton.testing.do_bench_cudagraph = _no_time
    triton.set_allocator = _answering(None)


def _answering(value: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: value


def _no_time(*args: Any, **kwargs: Any) -> float:
    return 1.0


def _autotuned(tuned: Callable[[str, int], int]) -> Callable[..., Any]:
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        configs = self.prune_configs(kwargs) if len(self.configs) > 1 else self.configs
        config = configs[tuned(self.base_fn.__name__, len(configs))]
        self.best_config = config
        if config.pre_hook is not None:
            config.pre_hook({**self.nargs, **kwargs, **config.all_kwargs()})
        try:
            return self.fn.run(*args, **kwargs, **config.all_kwargs())
        finally:
            self.nargs = None

    return run
