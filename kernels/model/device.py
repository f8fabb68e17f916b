"""The H100 SXM as the model sees it: published figures, each with its source; docs/h100-model.md lists them too.

No constant was fitted to a kernel that is judged by it.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Device:
    """Rates and limits of one GPU and of the host that feeds it; rates are of the whole GPU."""

    name: str = "H100 SXM (model)"
    multiprocessors: int = 132
    """NVIDIA H100 datasheet, SXM5."""
    clock_hz: float = 1.755e9
    """Clock of NVIDIA's dense peaks, 989.4e12 / (132 * 4096); it boosts to 1.98e9 and falls under load."""
    half_flops: float = 989e12
    """fp16 and bf16 on tensor cores, dense; datasheet."""
    tf32_flops: float = 495e12
    """TF32 on tensor cores, dense; datasheet."""
    eighth_flops: float = 1979e12
    """fp8 on tensor cores, dense; datasheet."""
    fp32_flops: float = 67e12
    """fp32 without tensor cores; datasheet. One operation that isn't a fused multiply-add runs at half of it."""
    fp64_flops: float = 67e12
    """fp64 on tensor cores; datasheet."""
    tensor_efficiency: float = 0.79
    """Share of the half-precision peak that cuBLAS reaches at 8192^3: 750 and 798 of 989 TFLOP/s (two sources)."""
    tf32_efficiency: float = 0.82
    """The same for TF32: 412 of 495 TFLOP/s at 8192^3, 399 at 4096^3."""
    fp32_efficiency: float = 0.75
    """The same for fp32 without TF32: 50.5 of 67 TFLOP/s at 8192^3."""
    mma_share: float = 0.62
    """mma.sync instead of wgmma, against wgmma's rate; arXiv 2402.13499."""
    memory_bytes: float = 3.0e12
    """Bytes a second to HBM3, reads and writes counted: what a copy reaches of 3.35e12 (two sources)."""
    l2_bytes: float = 5.6e12
    """Bytes a second out of L2; Hopper microbenchmarks, chipsandcheese 2023 and arXiv 2501.12084."""
    l2_capacity: float = 50e6 * 0.6
    """Bytes of 50 MB that one launch can count on: the two partitions hold copies of each other's lines."""
    latency_seconds: float = 7.0e-7
    """A load that misses L2, under load; about 480 ns idle, arXiv 2402.13499."""
    launch_seconds: float = 2.0e-6
    """What a kernel takes on the GPU beside its work: start, ramp and drain; about 2 us where it is empty."""
    dispatch_seconds: float = 6.0e-6
    """What the Python host takes to issue one torch operator: 5 to 10 us on several pages."""
    triton_seconds: float = 1.2e-5
    """What the Python host takes to issue one Triton launch through its JIT; 5 to 20 us on several pages."""
    block_seconds: float = 8.0e-10
    """Between two blocks that the scheduler starts: somewhat more than a clock."""
    registers: int = 65_536
    threads: int = 2_048
    blocks: int = 32
    shared_bytes: int = 233_472
    """Of a multiprocessor; CUDA programming guide, compute capability 9.0, as the two lines above."""
    shared_block: int = 232_448
    spill_limit: int = 256
    """Bytes of spill stores and loads a thread beyond which a kernel is refused: it would live in local memory."""

    def product_rate(self, kind: str) -> float:
        """Operations a second of a large product of this kind, such as `fp16` or `tf32`."""
        shares = {"tf32": self.tf32_efficiency, "tf32x3": self.tf32_efficiency}
        plain = self.fp32_efficiency if kind in ("fp32", "fp64") else self.tensor_efficiency
        return self.product_peak(kind) * shares.get(kind, plain)

    def product_peak(self, kind: str) -> float:
        """Datasheet's operations a second of a product of this kind."""
        peaks = {
            "fp8": self.eighth_flops,
            "int8": self.eighth_flops,
            "fp16": self.half_flops,
            "bf16": self.half_flops,
            "bf16x3": self.half_flops / 3,
            "bf16x6": self.half_flops / 6,
            "tf32": self.tf32_flops,
            "tf32x3": self.tf32_flops / 3,
            "fp64": self.fp64_flops,
        }
        return peaks.get(kind, self.fp32_flops)


H100 = Device()

PERTURBATIONS = 4
"""Device variants that every report carries."""


DOUBTS = {
    "memory_bytes": 0.2, "tensor_efficiency": 0.2, "tf32_efficiency": 0.2, "fp32_efficiency": 0.2, "mma_share": 0.2,
    "fp32_flops": 0.2, "l2_bytes": 0.3, "l2_capacity": 0.3, "latency_seconds": -0.4, "launch_seconds": -0.4,
    "dispatch_seconds": -0.4, "triton_seconds": -0.4, "block_seconds": -0.4,
}  # fmt: skip
"""By how much of itself each uncertain constant may be off; negative where more of it is slower."""


def perturbed(device: Device, seed: int) -> Device:
    """The same device with its uncertain constants moved, each within its own doubt."""
    draw = random.Random(seed)
    return _moved(device, {name: draw.uniform(-doubt, doubt) for name, doubt in DOUBTS.items()})


def slowest(device: Device) -> Device:
    """The same device with every uncertain constant at the slow end of its doubt."""
    return _moved(device, {name: -doubt for name, doubt in DOUBTS.items()})


def fastest(device: Device) -> Device:
    """The same device with every uncertain constant at the fast end of its doubt."""
    return _moved(device, DOUBTS)


def _moved(device: Device, by: Mapping[str, float]) -> Device:
    values: dict[str, float] = {name: getattr(device, name) * (1 + share) for name, share in by.items()}
    return replace(device, **values)  # pyright: ignore[reportArgumentType]
