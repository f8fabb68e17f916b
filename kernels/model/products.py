"""The time of a matrix product as cuBLAS runs it: tiles, whole waves of them, and the rate of type and layout."""

import math
from dataclasses import dataclass
from functools import lru_cache

from .device import Device

_TENSOR_TILES = (
    (128, 256, 1.0), (256, 128, 1.0), (128, 128, 0.92), (64, 256, 0.85), (128, 64, 0.75), (64, 128, 0.75),
    (64, 64, 0.55),
)  # fmt: skip
"""Rows, columns, share of the rate of a large product that the tile's main loop reaches."""
_PLAIN_TILES = (
    (128, 128, 1.0),
    (128, 64, 0.9),
    (64, 128, 0.9),
    (64, 64, 0.75),
    (128, 32, 0.65),
    (32, 128, 0.65),
    (32, 32, 0.4),
)
"""The same without tensor cores."""
_EPILOGUE = 5.0e-7
"""Seconds in which a tile is written out, beside its bandwidth."""
_UNALIGNED = 0.4
"""Rate of half-precision products whose rows don't start at 16 bytes: no bulk copies, no wgmma, scalar loads."""


@dataclass(frozen=True)
class Product:
    """`batch` products of [m, k] by [k, n]."""

    kind: str
    m: int
    n: int
    k: int
    batch: int = 1
    aligned: bool = True
    """Whether every row of the operands and of the result starts at 16 bytes."""

    @property
    def flops(self) -> float:
        """Two for each multiplication."""
        return 2.0 * self.m * self.n * self.k * self.batch


@lru_cache(maxsize=4096)
def product_seconds(product: Product, device: Device) -> float:
    """Seconds of arithmetic of the best tile, with its waves rounded up."""
    if not product.flops:
        return 0.0
    tensor = product.kind not in ("fp32", "fp64")
    rate = device.product_rate(product.kind)
    if tensor and not product.aligned:
        rate *= _UNALIGNED
    best = math.inf
    for rows, columns, share in _TENSOR_TILES if tensor else _PLAIN_TILES:
        tiles = math.ceil(product.m / rows) * math.ceil(product.n / columns) * product.batch
        for split in (1, 2, 4, 8, 16, 32):
            if split > 1 and (tiles * split > 2 * device.multiprocessors or product.k < 128 * split):
                break
            depth = math.ceil(product.k / split / 32) * 32
            loop = 2.0 * rows * columns * depth / (rate * share / device.multiprocessors)
            # Blocks of one multiprocessor overlap the end of one tile with the start of the next.
            around = (device.latency_seconds + _EPILOGUE) * (0.5 if tiles > 2 * device.multiprocessors else 1.0)
            waves = math.ceil(tiles * split / device.multiprocessors)
            partial = 8.0 * product.m * product.n * product.batch * split / device.memory_bytes if split > 1 else 0.0
            best = min(best, waves * (loop + around) + partial)
    return best
