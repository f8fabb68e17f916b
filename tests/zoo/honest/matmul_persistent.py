"""Matmul by one program a multiprocessor, each walking the tiles in groups of rows."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "matmul", "kind": "persistent, grouped order, subtiled epilogue"}


@triton.jit
def epilogue(total, bias, ACTIVATION: tl.constexpr):
    total += bias.to(tl.float32)
    if ACTIVATION == "relu":
        total = tl.maximum(total, 0.0)
    elif ACTIVATION == "silu":
        total = total * tl.sigmoid(total)
    return total


@triton.jit
def place_of(tile, m, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr, GROUP: tl.constexpr):
    tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
    group = tile // (GROUP * tiles_n)
    height = min(tiles_m - group * GROUP, GROUP)
    return group * GROUP + tile % (GROUP * tiles_n) % height, tile % (GROUP * tiles_n) // height


@triton.jit
def matmul(
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
    GROUP: tl.constexpr,
):
    tiles = tl.cdiv(m, TILE_M) * tl.cdiv(n, TILE_N)
    depth = tl.arange(0, DEPTH)
    for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0), flatten=False):
        tile_m, tile_n = place_of(tile, m, n, TILE_M, TILE_N, GROUP)
        row = tile_m * TILE_M + tl.arange(0, TILE_M)
        column = tile_n * TILE_N + tl.arange(0, TILE_N)
        # Rows past the end are wrapped, so that only k needs a mask.
        a_row = tl.max_contiguous(tl.multiple_of(row % m, TILE_M), TILE_M)
        b_column = tl.max_contiguous(tl.multiple_of(column % n, TILE_N), TILE_N)
        total = tl.zeros((TILE_M, TILE_N), dtype=tl.float32)
        for step in range(tl.cdiv(k, DEPTH)):
            left = k - step * DEPTH
            a = tl.load(
                a_ptr + a_row[:, None] * k + step * DEPTH + depth[None, :], mask=depth[None, :] < left, other=0.0
            )
            b = tl.load(
                b_ptr + (step * DEPTH + depth)[:, None] * n + b_column[None, :], mask=depth[:, None] < left, other=0.0
            )
            total = tl.dot(a, b, total)
        bias = tl.load(bias_ptr + column, mask=column < n, other=0.0).to(tl.float32)
        total = epilogue(total, bias[None, :], ACTIVATION)
        first, second = total.reshape(TILE_M, 2, TILE_N // 2).permute(0, 2, 1).split()
        column = tile_n * TILE_N + tl.arange(0, TILE_N // 2)
        at = out_ptr + row[:, None] * n + column[None, :]
        tl.store(at, first.to(out_ptr.dtype.element_ty), mask=(row < m)[:, None] & (column < n)[None, :])
        column += TILE_N // 2
        tl.store(at + TILE_N // 2, second.to(out_ptr.dtype.element_ty), mask=(row < m)[:, None] & (column < n)[None, :])


def custom_kernel(data):
    a, b, bias, activation = data
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n, dtype=torch.float16, device="cuda")
    programs = torch.cuda.get_device_properties("cuda").multi_processor_count
    grid = lambda meta: (min(programs, triton.cdiv(m, meta["TILE_M"]) * triton.cdiv(n, meta["TILE_N"])),)
    matmul[grid](
        a,
        b,
        bias,
        out,
        m,
        n,
        k,
        ACTIVATION=activation,
        TILE_M=64,
        TILE_N=64,
        DEPTH=32,
        GROUP=8,
        num_warps=4,
        num_stages=3,
    )
    return out
