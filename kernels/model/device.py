"""The H100 SXM as the estimate sees it: published figures, each with its source.

No constant was fitted to a kernel that is judged by it.
"""

import random
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Device:
    """Rates and limits of one GPU; rates are of the whole GPU."""

    name: str = "H100 SXM (model)"
    multiprocessors: int = 132
    """NVIDIA H100 datasheet, SXM5."""
    clock_hz: float = 1.755e9
    """Boost clock that NVIDIA's dense peaks are stated at: 989.4e12 / (132 * 4096)."""
    half_flops: float = 989e12
    """fp16 on tensor cores, dense; datasheet."""
    tf32_flops: float = 495e12
    """TF32 on tensor cores, dense; datasheet."""
    fp32_flops: float = 67e12
    """fp32 without tensor cores; datasheet. One operation that isn't a fused multiply-add runs at half of it."""
    tensor_efficiency: float = 0.81
    """Share of the peak that a large, warm product reaches: 798 of 989 TFLOP/s at 8192^3."""
    mma_share: float = 0.62
    """mma.sync instead of wgmma, against wgmma's rate; arXiv 2402.13499."""
    memory_bytes: float = 3.0e12
    """Bytes a second to HBM3, reads and writes counted: what a copy reaches of the datasheet's 3.35e12."""
    l2_bytes: float = 5.6e12
    """Bytes a second out of L2; Hopper microbenchmarks, arXiv 2501.12084."""
    l2_capacity: float = 50e6 * 0.6
    """Bytes of 50 MB that one launch can count on: the two partitions hold copies of each other's lines."""
    latency_seconds: float = 7.0e-7
    """A load that misses L2, under load; about 480 ns idle, arXiv 2402.13499."""
    launch_seconds: float = 3.0e-6
    """One launch on a stream that is kept fed: 2 to 5 microseconds on several pages."""
    registers: int = 65_536
    threads: int = 2_048
    blocks: int = 32
    shared_bytes: int = 233_472
    """Of a multiprocessor; CUDA programming guide, compute capability 9.0, as the two lines above."""
    shared_block: int = 232_448
    spill_limit: int = 256
    """Bytes of spill stores and loads a thread beyond which a kernel is refused: it would live in local memory."""


H100 = Device()


def perturbed(device: Device, seed: int) -> Device:
    """The same device with its uncertain constants moved, each within its own doubt.

    Bandwidths and tensor rates by up to 20 %, L2 by 30 %, latency and launches by 40 %.
    """
    draw = random.Random(seed)

    def around(value: float, doubt: float) -> float:
        return value * (1 + draw.uniform(-doubt, doubt))

    return replace(
        device,
        memory_bytes=around(device.memory_bytes, 0.2),
        tensor_efficiency=around(device.tensor_efficiency, 0.2),
        mma_share=around(device.mma_share, 0.2),
        fp32_flops=around(device.fp32_flops, 0.2),
        l2_bytes=around(device.l2_bytes, 0.3),
        l2_capacity=around(device.l2_capacity, 0.3),
        latency_seconds=around(device.latency_seconds, 0.4),
        launch_seconds=around(device.launch_seconds, 0.4),
    )
