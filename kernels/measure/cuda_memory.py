# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportPrivateUsage=false, reportMissingParameterType=false
# pyright: reportPrivateImportUsage=false
"""The submission's end of the buffers on a CUDA device: maps what the parent exports, as tensors, and times calls.

This file runs inside the sandbox, without the rest of Pawl.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from .driver import Driver

_synchronize = torch.cuda.synchronize
_Event = torch.cuda.Event


class Span:
    """Device memory as the array interface that torch reads without a copy."""

    def __init__(self, address: int, size: int) -> None:
        interface = {"shape": (size,), "typestr": "|u1", "data": (address, False), "strides": None, "version": 3}
        self.__cuda_array_interface__ = interface


def view(address: int, size: int) -> torch.Tensor:
    """Device memory as a tensor of bytes, whose storage is exactly that."""
    return torch.as_tensor(Span(address, size), device="cuda")


class CudaMemory:
    """Maps, unmaps, and measures with the device's own means."""

    def __init__(self) -> None:
        torch.zeros(1, device="cuda")  # makes the context that the driver's calls need
        self._driver = Driver()
        self._handles: dict[int, int] = {}

    def reserve(self, size: int) -> int:
        """Addresses for a buffer; never given up, so that no other buffer gets them."""
        return self._driver.reserve(size)

    def map(self, address: int, size: int, descriptor: int) -> None:
        """Put a buffer there."""
        handle = self._handles[address] = self._driver.adopt(descriptor)
        self._driver.map(address, size, handle)

    def unmap(self, address: int, size: int) -> None:
        """Take it away, once nothing uses it any more."""
        _synchronize()
        self._driver.unmap(address, size)
        self._driver.release(self._handles.pop(address))

    def tensor(self, address: int, size: int, dtype: str, shape: list[int]) -> torch.Tensor:
        """A contiguous tensor in a mapped buffer."""
        kind = getattr(torch, dtype)
        assert size == math.prod(shape) * kind.itemsize
        return view(address, size).view(kind).view(shape)

    def synchronize(self) -> None:
        """Wait for all streams."""
        _synchronize()

    def time(self, call: Callable[[], Any]) -> tuple[Any, float]:
        """The call's result, and microseconds between events around it, once all streams are done."""
        begin, end = _Event(enable_timing=True), _Event(enable_timing=True)
        begin.record()
        result = call()
        end.record()
        _synchronize()
        return result, 1e3 * begin.elapsed_time(end)

    def profile(self, call: Callable[[], Any]) -> tuple[Any, float, float, int]:
        """The same, the span of the kernels on all streams, and how many there were."""
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            result, micros = self.time(call)
        on_device = [event for event in profiler.events() or () if event.device_type == DeviceType.CUDA]
        kernels = [event for event in on_device if not event.name.startswith(("Memcpy", "Memset"))]
        if not on_device:
            return result, micros, 0.0, 0
        starts, ends = zip(*((each.time_range.start, each.time_range.end) for each in on_device), strict=True)
        return result, micros, float(max(ends) - min(starts)), len(kernels)


def open_memory() -> CudaMemory:
    """Of the only device that the sandbox shows."""
    return CudaMemory()
