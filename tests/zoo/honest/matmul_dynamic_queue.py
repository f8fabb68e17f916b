"""Matmul whose programs draw their next tile from a counter in memory."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "matmul", "kind": "work queue by an atomic counter"}


@triton.jit
def epilogue(total, bias, ACTIVATION: tl.constexpr):
    total += bias.to(tl.float32)
    if ACTIVATION == "relu":
        total = tl.maximum(total, 0.0)
    elif ACTIVATION == "silu":
        total = total * tl.sigmoid(total)
    return total


@triton.jit
def matmul(
    a_ptr,
    b_ptr,
    bias_ptr,
    out_ptr,
    next_ptr,
    m,
    n,
    k,
    ACTIVATION: tl.constexpr,
    TILE: tl.constexpr,
    DEPTH: tl.constexpr,
):
    tiles_n = tl.cdiv(n, TILE)
    tiles = tl.cdiv(m, TILE) * tiles_n
    tile = tl.atomic_add(next_ptr, 1)
    while tile < tiles:
        row = tile // tiles_n * TILE + tl.arange(0, TILE)
        column = tile % tiles_n * TILE + tl.arange(0, TILE)
        total = tl.zeros([TILE, TILE], tl.float32)
        for start in range(0, k, DEPTH):
            depth = start + tl.arange(0, DEPTH)
            a = tl.load(
                a_ptr + row[:, None] * k + depth[None, :], mask=(row < m)[:, None] & (depth < k)[None, :], other=0.0
            )
            b = tl.load(
                b_ptr + depth[:, None] * n + column[None, :],
                mask=(depth < k)[:, None] & (column < n)[None, :],
                other=0.0,
            )
            total = tl.dot(a, b, total)
        bias = tl.load(bias_ptr + column, mask=column < n, other=0.0)
        y = epilogue(total, bias[None, :], ACTIVATION).to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + row[:, None] * n + column[None, :], y, mask=(row < m)[:, None] & (column < n)[None, :])
        tile = tl.atomic_add(next_ptr, 1)


def custom_kernel(data):
    a, b, bias, activation = data
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n, dtype=torch.float16, device="cuda")
    counter = torch.zeros(1, dtype=torch.int32, device="cuda")
    matmul[(torch.cuda.get_device_properties(0).multi_processor_count,)](
        a, b, bias, out, counter, m, n, k, ACTIVATION=activation, TILE=64, DEPTH=32
    )
    return out
