"""Matmul that takes a kernel without tensor cores for a few rows, and tiles with tensor cores for many."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "matmul", "kind": "another kernel by size, products without dot"}


@triton.jit
def epilogue(total, bias, ACTIVATION: tl.constexpr):
    total += bias.to(tl.float32)
    if ACTIVATION == "relu":
        total = tl.maximum(total, 0.0)
    elif ACTIVATION == "silu":
        total = total * tl.sigmoid(total)
    return total


@triton.jit
def few_rows(a_ptr, b_ptr, bias_ptr, out_ptr, n, k, ACTIVATION: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * COLS + tl.arange(0, COLS)
    total = tl.zeros([DEPTH, COLS], tl.float32)
    for start in range(0, k, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        a = tl.load(a_ptr + row * k + depth, mask=depth < k, other=0.0).to(tl.float32)
        b = tl.load(
            b_ptr + depth[:, None] * n + column[None, :],
            mask=(depth < k)[:, None] & (column < n)[None, :],
            other=0.0,
            eviction_policy="evict_first",
        )
        total += a[:, None] * b.to(tl.float32)
    bias = tl.load(bias_ptr + column, mask=column < n, other=0.0)
    y = epilogue(tl.sum(total, 0), bias, ACTIVATION).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row * n + column, y, mask=column < n)


@triton.jit
def many_rows(
    a_ptr,
    b_ptr,
    bias_ptr,
    out_ptr,
    m,
    n,
    k,
    ACTIVATION: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
    DEPTH: tl.constexpr,
):
    tile_m, tile_n = tl.swizzle2d(tl.program_id(0), tl.program_id(1), tl.num_programs(0), tl.num_programs(1), 4)
    row = tile_m * TILE_M + tl.arange(0, TILE_M)
    column = tile_n * TILE_N + tl.arange(0, TILE_N)
    total = tl.zeros([TILE_M, TILE_N], tl.float32)
    for start in tl.range(0, k, DEPTH, num_stages=4, loop_unroll_factor=1):
        depth = start + tl.arange(0, DEPTH)
        a = tl.load(
            a_ptr + row[:, None] * k + depth[None, :], mask=(row < m)[:, None] & (depth < k)[None, :], other=0.0
        )
        b = tl.load(
            b_ptr + depth[:, None] * n + column[None, :], mask=(depth < k)[:, None] & (column < n)[None, :], other=0.0
        )
        total = tl.dot(a, b, acc=total, allow_tf32=True)
    bias = tl.load(bias_ptr + column, mask=column < n, other=0.0)
    y = epilogue(total, bias[None, :], ACTIVATION).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row[:, None] * n + column[None, :], y, mask=(row < m)[:, None] & (column < n)[None, :])


def custom_kernel(data):
    a, b, bias, activation = data
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n, dtype=torch.float16, device="cuda")
    if m <= 4:
        few_rows[(m, triton.cdiv(n, 64))](a, b, bias, out, n, k, ACTIVATION=activation, COLS=64, DEPTH=32)
    else:
        many_rows[(triton.cdiv(m, 64), triton.cdiv(n, 128))](
            a, b, bias, out, m, n, k, ACTIVATION=activation, TILE_M=64, TILE_N=128, DEPTH=32, num_warps=8
        )
    return out
