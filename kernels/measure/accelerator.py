# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The parent's end of a device: buffers that it owns, its own copies of outputs, flushing, clocks.

accelerator = open_accelerator()            # raises NoDevice, with the reason, where there is none
buffer = accelerator.allocate(1 << 30)
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...core import PawlError
from ...safety.sandbox import Layer, Mount, Sandbox

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

_DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
_WARM_PRODUCTS, _WARM_SIZE = 24, 4096
"""Half-precision products before each call, some 5 to 10 ms: a device that has idled runs at a lower clock."""


class NoDevice(PawlError):
    """There is no device to measure on; times here are estimated."""


class NoRoom(Exception):
    """The device has no memory left for a buffer or a copy; another process may hold it."""


@dataclass(frozen=True)
class ClockReading:
    """One look at a device's clocks."""

    multiprocessor_mhz: int
    memory_mhz: int
    throttled: bool


class Buffer(Protocol):
    """Device memory that another process can map by a descriptor."""

    bytes: int

    def descriptor(self) -> int:
        """A new descriptor that stands for it, which the caller closes."""
        ...

    def poison(self) -> None:
        """Set every bit; complete on return."""
        ...

    def write(self, offset: int, data: "Bytes") -> None:
        """Copy bytes in; complete on return."""
        ...

    def read(self, offset: int, size: int) -> "Bytes":
        """Copy bytes out."""
        ...

    def private_copy(self, offset: int, size: int) -> "PrivateCopy":
        """Room for a copy of a part, in device memory that no other process can map; nothing is copied yet.

        Raises:
            NoRoom: there is none.
        """
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


class PrivateCopy(Protocol):
    """A copy that only the parent holds."""

    def take(self) -> None:
        """Copy; complete on return."""
        ...

    def read(self) -> "Bytes":
        """Its bytes."""
        ...


class Accelerator(Protocol):
    """A device as the parent uses it."""

    name: str
    """As the driver tells it."""
    memory_module: str
    """The child's end: a module of its bundle."""

    def bundle(self) -> dict[str, bytes]:
        """Files that the child's end consists of, by path."""
        ...

    def mounts(self, sandbox: Sandbox) -> tuple[Mount, ...]:
        """What the sandbox must show of the device."""
        ...

    def allocate(self, size: int) -> Buffer:
        """Memory of at least so many bytes.

        Raises:
            NoRoom: the device has no more.
        """
        ...

    def settle(self) -> None:
        """Bring the device to the state that every timed call starts from: clocks up, nothing of use in L2, idle."""
        ...

    def clocks(self) -> ClockReading:
        """Look at the clocks."""
        ...


def why_no_device() -> str:
    """Why nothing can be measured here; empty where it can."""
    if not Path("/dev/nvidiactl").exists():
        return "there is no CUDA device: /dev/nvidiactl doesn't exist"
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no CUDA device"
    return ""


def open_accelerator() -> Accelerator:
    """The first CUDA device that is visible to this process.

    Raises:
        NoDevice: there is none that torch and the driver can use.
    """
    reason = why_no_device()
    if not reason:
        try:
            return CudaAccelerator()
        except (OSError, RuntimeError) as error:
            reason = f"the CUDA device can't be used: {error}"
    raise NoDevice(
        f"Nothing can be measured here: {reason}. Measure on a machine with a GPU and a torch built for it, or take "
        "estimated times (`pawl kernel verify --estimated`)."
    )


class CudaAccelerator:
    """Device 0, by torch and the driver's memory calls. Not to be used from two threads at once."""

    memory_module = "pawl_timed.cuda_memory"

    def __init__(self) -> None:
        import torch

        from .driver import Driver

        self._torch = torch
        properties = torch.cuda.get_device_properties(0)
        self.name: str = properties.name
        self._uuid = str(properties.uuid).removeprefix("GPU-")
        # More than twice L2: nothing that was there before is left, whatever a line's replacement.
        self._flush = torch.empty(2 * properties.L2_cache_size + (16 << 20), dtype=torch.uint8, device="cuda")
        self._warm = torch.randn(_WARM_SIZE, _WARM_SIZE, dtype=torch.float16, device="cuda")
        self._driver = Driver()
        self._turn = 0

    def bundle(self) -> dict[str, bytes]:
        """Files that the child's end consists of, by path."""
        folder = Path(__file__).parent
        return {f"pawl_timed/{name}": (folder / name).read_bytes() for name in ("cuda_memory.py", "driver.py")}

    def mounts(self, sandbox: Sandbox) -> tuple[Mount, ...]:
        """The driver's device files, of this GPU alone; its libraries lie below /usr, which every sandbox shows."""
        told_of = (path.read_text() for path in Path("/proc/driver/nvidia/gpus").glob("*/information"))
        paths = (*_DEVICES, f"/dev/nvidia{minor_of(self._uuid, told_of)}")
        found = [Mount(path=Path(path), writable=True) for path in paths if os.path.exists(path)]
        told = Path("/proc/driver/nvidia")
        if Layer.NAMESPACES not in sandbox.layers and told.exists():  # with namespaces /proc is there as a whole
            found.append(Mount(path=told))
        return tuple(found)

    def allocate(self, size: int) -> "CudaBuffer":
        """Memory of at least so many bytes."""
        self._torch.zeros(1, device="cuda")  # makes the context current in this thread, for the driver's calls
        try:
            return CudaBuffer(self._torch, self._driver, self._driver.round_up(size))
        except OSError as error:
            raise NoRoom(f"{size} bytes: {error}") from error

    def settle(self) -> None:
        """Bring the clocks up, overwrite more than twice L2, and wait."""
        for _ in range(_WARM_PRODUCTS):
            self._torch.mm(self._warm, self._warm)
        self._turn = (self._turn + 1) % 251
        self._flush.fill_(self._turn)
        self._torch.cuda.synchronize()

    def clocks(self) -> ClockReading:
        """Ask `nvidia-smi`, which asks NVML."""
        program = shutil.which("nvidia-smi")
        if program is None:
            return ClockReading(0, 0, False)
        query = "--query-gpu=clocks.sm,clocks.mem,clocks_event_reasons.active"
        asked = [program, "-i", f"GPU-{self._uuid}", query, "--format=csv,noheader,nounits"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20).stdout
        return parse_clocks(told)


class CudaBuffer:
    """An exported allocation, mapped in this process too."""

    def __init__(self, torch: Any, driver: Any, size: int) -> None:
        from .cuda_memory import view

        self.bytes = size
        self._torch, self._driver = torch, driver
        self._handle = driver.create(size)
        self._address = driver.reserve(size)
        driver.map(self._address, size, self._handle)
        self._view = view(self._address, size)

    def descriptor(self) -> int:
        """A new descriptor that stands for it, which the caller closes."""
        return self._driver.export(self._handle)

    def poison(self) -> None:
        """Set every bit; complete on return."""
        self._view.fill_(0xFF)
        self._torch.cuda.synchronize()

    def write(self, offset: int, data: "Bytes") -> None:
        """Copy bytes in; complete on return."""
        self._view[offset : offset + data.size].copy_(self._torch.from_numpy(data.copy()))
        self._torch.cuda.synchronize()

    def read(self, offset: int, size: int) -> "Bytes":
        """Copy bytes out."""
        return self._view[offset : offset + size].cpu().numpy()

    def private_copy(self, offset: int, size: int) -> "CudaCopy":
        """Room for a copy of a part, in memory of this process alone."""
        source = self._view[offset : offset + size]
        try:
            return CudaCopy(self._torch, source, self._torch.empty_like(source))
        except self._torch.OutOfMemoryError as error:
            raise NoRoom(f"{size} bytes: {error}") from error

    def close(self) -> None:
        """Give the memory back."""
        self._torch.cuda.synchronize()
        self._driver.unmap(self._address, self.bytes)
        self._driver.give_up(self._address, self.bytes)
        self._driver.release(self._handle)


@dataclass(frozen=True)
class CudaCopy:
    """A copy in this process's own memory."""

    torch: Any
    source: Any
    data: Any

    def take(self) -> None:
        """Copy; complete on return."""
        self.data.copy_(self.source)
        self.torch.cuda.synchronize()

    def read(self) -> "Bytes":
        """Its bytes."""
        return self.data.cpu().numpy()


def minor_of(uuid: str, informations: Iterable[str]) -> int:
    """The number of a GPU's device file, from the driver's `information` files; 0 where none tells of that GPU."""
    for text in informations:
        fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
        if fields.get("GPU UUID", "").removeprefix("GPU-") == uuid and fields.get("Device Minor", "").isdigit():
            return int(fields["Device Minor"])
    return 0


def parse_clocks(told: str) -> ClockReading:
    """Read a line `1980, 2619, 0x0000000000000000`; zeros where there is none.

    The reasons are NVML's bits (`nvmlClocksEventReasons`): 0x4 power cap, 0x8 hardware slow-down, 0x20 and 0x40
    heat, 0x80 power brake.
    """
    parts = [part.strip() for part in told.splitlines()[0].split(",")] if told.strip() else []
    if len(parts) != 3:
        return ClockReading(0, 0, False)
    try:
        reasons = int(parts[2], 16) if parts[2].startswith("0x") else 0
        return ClockReading(int(parts[0]), int(parts[1]), bool(reasons & 0xEC))
    except ValueError:
        return ClockReading(0, 0, False)
