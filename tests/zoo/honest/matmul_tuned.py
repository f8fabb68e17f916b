"""Matmul in grouped order with even and ragged k apart, under an autotuner with a key and pruning."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "matmul", "kind": "autotune with several configs, heuristics around it"}


@triton.jit
def epilogue(total, bias, ACTIVATION: tl.constexpr):
    total += bias.to(tl.float32)
    if ACTIVATION == "relu":
        total = tl.maximum(total, 0.0)
    elif ACTIVATION == "silu":
        total = total * tl.sigmoid(total)
    return total


CONFIGS = [
    triton.Config({"TILE_M": tile_m, "TILE_N": tile_n, "DEPTH": depth, "GROUP": 8}, num_warps=warps, num_stages=stages)
    for tile_m, tile_n, depth, warps, stages in (
        (128, 256, 64, 8, 3),
        (64, 256, 32, 4, 4),
        (128, 128, 32, 4, 4),
        (128, 64, 32, 4, 4),
        (64, 64, 32, 4, 5),
    )
]


def smaller(configs, named, **_):
    """No tile larger than the matrix; at least the last one stays."""
    kept = [c for c in configs if c.kwargs["TILE_M"] <= named["m"] and c.kwargs["TILE_N"] <= named["n"]]
    return kept or configs[-1:]


@triton.autotune(configs=CONFIGS, key=["m", "n", "k"], prune_configs_by={"early_config_prune": smaller})
@triton.heuristics({"EVEN_K": lambda args: args["k"] % args["DEPTH"] == 0})
@triton.jit
def matmul(
    a_ptr,
    b_ptr,
    bias_ptr,
    out_ptr,
    m,
    n,
    k,
    stride_am,
    stride_ak,
    stride_bk,
    stride_bn,
    stride_om,
    stride_on,
    ACTIVATION: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    EVEN_K: tl.constexpr,
):
    tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
    width = GROUP * tiles_n
    group = tl.program_id(0) // width
    height = min(tiles_m - group * GROUP, GROUP)
    tile_m = group * GROUP + tl.program_id(0) % width % height
    tile_n = tl.program_id(0) % width // height
    tl.assume(tile_m >= 0)
    tl.assume(stride_am > 0)
    row = tile_m * TILE_M + tl.arange(0, TILE_M)
    column = tile_n * TILE_N + tl.arange(0, TILE_N)
    depth = tl.arange(0, DEPTH)
    a_at = a_ptr + row[:, None] * stride_am + depth[None, :] * stride_ak
    b_at = b_ptr + depth[:, None] * stride_bk + column[None, :] * stride_bn
    total = tl.zeros((TILE_M, TILE_N), dtype=tl.float32)
    for start in range(tl.cdiv(k, DEPTH)):
        if EVEN_K:
            a = tl.load(a_at, mask=row[:, None] < m, other=0.0)
            b = tl.load(b_at, mask=column[None, :] < n, other=0.0)
        else:
            left = k - start * DEPTH
            a = tl.load(a_at, mask=(row[:, None] < m) & (depth[None, :] < left), other=0.0)
            b = tl.load(b_at, mask=(column[None, :] < n) & (depth[:, None] < left), other=0.0)
        total = tl.dot(a, b, total)
        a_at += DEPTH * stride_ak
        b_at += DEPTH * stride_bk
    bias = tl.load(bias_ptr + column, mask=column < n, other=0.0)
    y = epilogue(total, bias[None, :], ACTIVATION).to(out_ptr.dtype.element_ty)
    tl.store(
        out_ptr + stride_om * row[:, None] + stride_on * column[None, :],
        y,
        mask=(row[:, None] < m) & (column[None, :] < n),
    )


def custom_kernel(data):
    a, b, bias, activation = data
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n, dtype=torch.float16, device="cuda")
    grid = lambda meta: (triton.cdiv(m, meta["TILE_M"]) * triton.cdiv(n, meta["TILE_N"]),)
    strides = (*a.stride(), *b.stride(), *out.stride())
    matmul[grid](a, b, bias, out, m, n, k, *strides, ACTIVATION=activation)
    return out
