"""Matmul split along k: the last program of a tile to arrive, told by a semaphore, adds the parts up."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "matmul", "kind": "split-k with a semaphore"}


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
    parts_ptr,
    arrived_ptr,
    out_ptr,
    m,
    n,
    k,
    ACTIVATION: tl.constexpr,
    TILE: tl.constexpr,
    DEPTH: tl.constexpr,
    SPLIT: tl.constexpr,
):
    tiles_n = tl.cdiv(n, TILE)
    tile, split = tl.program_id(0), tl.program_id(1)
    row = tile // tiles_n * TILE + tl.arange(0, TILE)
    column = tile % tiles_n * TILE + tl.arange(0, TILE)
    total = tl.zeros([TILE, TILE], tl.float32)
    for start in range(split * DEPTH, k, SPLIT * DEPTH):
        depth = start + tl.arange(0, DEPTH)
        a = tl.load(
            a_ptr + row[:, None] * k + depth[None, :], mask=(row < m)[:, None] & (depth < k)[None, :], other=0.0
        )
        b = tl.load(
            b_ptr + depth[:, None] * n + column[None, :], mask=(depth < k)[:, None] & (column < n)[None, :], other=0.0
        )
        total = tl.dot(a, b, total)
    place = tl.arange(0, TILE)[:, None] * TILE + tl.arange(0, TILE)[None, :]
    tl.store(parts_ptr + (tile * SPLIT + split) * TILE * TILE + place, total)
    tl.debug_barrier()
    before = tl.atomic_add(arrived_ptr + tile, 1, sem="acq_rel")
    if before == SPLIT - 1:
        whole = tl.zeros([TILE, TILE], tl.float32)
        for part in range(SPLIT):
            whole += tl.load(parts_ptr + (tile * SPLIT + part) * TILE * TILE + place, cache_modifier=".cg")
        bias = tl.load(bias_ptr + column, mask=column < n, other=0.0)[None, :]
        y = epilogue(whole, bias, ACTIVATION).to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + row[:, None] * n + column[None, :], y, mask=(row < m)[:, None] & (column < n)[None, :])
        tl.atomic_xchg(arrived_ptr + tile, 0)  # ready for the next launch


ARRIVED = {}


def custom_kernel(data):
    a, b, bias, activation = data
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n, dtype=torch.float16, device="cuda")
    tiles = triton.cdiv(m, 64) * triton.cdiv(n, 64)
    if tiles not in ARRIVED:
        ARRIVED[tiles] = torch.zeros(tiles, dtype=torch.int32, device="cuda")
    parts = torch.empty(tiles, 4, 64, 64, dtype=torch.float32, device="cuda")
    matmul[(tiles, 4)](
        a, b, bias, parts, ARRIVED[tiles], out, m, n, k, ACTIVATION=activation, TILE=64, DEPTH=32, SPLIT=4
    )
    return out
