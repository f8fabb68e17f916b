"""CUDA memory that two processes share by a file descriptor: the driver's virtual memory management, through ctypes.

The owner creates an allocation and exports it as a descriptor, which goes to the other process over a Unix socket; that
one imports and maps it. Unlike the runtime's memory handles this needs no common process ids, which a sandbox's
namespace doesn't have. Layouts are those of `cuda.h`, section "Virtual Memory Management".

This file runs inside the sandbox too, without the rest of Pawl.
"""

import ctypes
from typing import Any

_DEVICE = 1  # CU_MEM_LOCATION_TYPE_DEVICE
_PINNED = 1  # CU_MEM_ALLOCATION_TYPE_PINNED
_DESCRIPTOR = 1  # CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
_READ_AND_WRITE = 3  # CU_MEM_ACCESS_FLAGS_PROT_READWRITE


class _Location(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("device", ctypes.c_int)]


class _Properties(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("handles", ctypes.c_int),
        ("location", _Location),
        ("windows", ctypes.c_void_p),
        ("flags", ctypes.c_ubyte * 8),
    ]


class _Access(ctypes.Structure):
    _fields_ = [("location", _Location), ("flags", ctypes.c_int)]


class DriverError(OSError):
    """A call of the driver that failed."""


class Driver:
    """Those calls of libcuda, on one device; a context must be current, as torch makes one at its first tensor."""

    def __init__(self, device: int = 0) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._location = _Location(_DEVICE, device)
        self._call("cuInit", ctypes.c_uint(0))
        self.granularity = self._granularity()
        """Bytes that every size here is a multiple of."""

    def round_up(self, size: int) -> int:
        """The least size of an allocation that holds so many bytes."""
        return -(-size // self.granularity) * self.granularity

    def create(self, size: int) -> int:
        """Allocate device memory; returns its handle."""
        handle = ctypes.c_uint64()
        self._call("cuMemCreate", ctypes.byref(handle), ctypes.c_size_t(size), self._properties(), ctypes.c_uint64(0))
        return handle.value

    def export(self, handle: int) -> int:
        """A new descriptor that stands for an allocation."""
        descriptor = ctypes.c_int()
        number, flags = ctypes.c_int(_DESCRIPTOR), ctypes.c_uint64(0)
        exported = ctypes.byref(descriptor)
        self._call("cuMemExportToShareableHandle", exported, ctypes.c_uint64(handle), number, flags)
        return descriptor.value

    def adopt(self, descriptor: int) -> int:
        """The allocation that a descriptor from another process stands for; returns its handle."""
        handle = ctypes.c_uint64()
        found = ctypes.c_void_p(descriptor)
        self._call("cuMemImportFromShareableHandle", ctypes.byref(handle), found, ctypes.c_int(_DESCRIPTOR))
        return handle.value

    def reserve(self, size: int) -> int:
        """Addresses that nothing else will get."""
        address = ctypes.c_uint64()
        zero = ctypes.c_uint64(0)
        self._call("cuMemAddressReserve", ctypes.byref(address), ctypes.c_size_t(size), ctypes.c_size_t(0), zero, zero)
        return address.value

    def map(self, address: int, size: int, handle: int) -> None:
        """Put an allocation at reserved addresses, to be read and written."""
        place, length, zero = ctypes.c_uint64(address), ctypes.c_size_t(size), ctypes.c_uint64(0)
        self._call("cuMemMap", place, length, ctypes.c_size_t(0), ctypes.c_uint64(handle), zero)
        access = _Access(self._location, _READ_AND_WRITE)
        self._call("cuMemSetAccess", place, length, ctypes.byref(access), ctypes.c_size_t(1))

    def unmap(self, address: int, size: int) -> None:
        """Take an allocation from its addresses, which stay reserved."""
        self._call("cuMemUnmap", ctypes.c_uint64(address), ctypes.c_size_t(size))

    def give_up(self, address: int, size: int) -> None:
        """End a reservation."""
        self._call("cuMemAddressFree", ctypes.c_uint64(address), ctypes.c_size_t(size))

    def release(self, handle: int) -> None:
        """Drop a handle; the memory is freed with its last handle, mapping and descriptor."""
        self._call("cuMemRelease", ctypes.c_uint64(handle))

    def _granularity(self) -> int:
        found = ctypes.c_size_t()
        self._call("cuMemGetAllocationGranularity", ctypes.byref(found), self._properties(), ctypes.c_int(0))
        return found.value

    def _properties(self) -> Any:
        return ctypes.byref(_Properties(_PINNED, _DESCRIPTOR, self._location, None, (ctypes.c_ubyte * 8)()))

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
            raise DriverError(code, f"{name}: {(text.value or b'unknown error').decode()}")
