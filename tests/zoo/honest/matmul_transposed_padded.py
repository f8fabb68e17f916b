"""Matmul with b turned over and both operands padded by torch, so that the kernel needs no mask along k."""

import torch
import triton
import triton.language as tl

HONEST = {
    "problem": "matmul",
    "kind": "operands copied into padded scratch by torch",
    "parameters": {"m": 1400, "n": 1408, "k": 1400},
}


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
    a_ptr, bt_ptr, bias_ptr, out_ptr, m, n, depth_end, ACTIVATION: tl.constexpr, TILE: tl.constexpr, DEPTH: tl.constexpr
):
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    column = tl.program_id(1) * TILE + tl.arange(0, TILE)
    at = tl.arange(0, DEPTH)
    a_at = a_ptr + row[:, None] * depth_end + at[None, :]
    b_at = bt_ptr + column[:, None] * depth_end + at[None, :]
    even = tl.zeros([TILE, TILE], tl.float32)
    odd = tl.zeros([TILE, TILE], tl.float32)
    for start in range(0, depth_end, 2 * DEPTH):
        even = tl.dot(tl.load(a_at + start), tl.trans(tl.load(b_at + start)), even)
        odd = tl.dot(tl.load(a_at + start + DEPTH), tl.load(b_at + start + DEPTH).trans(1, 0), odd)
    bias = tl.load(bias_ptr + column, mask=column < n, other=0.0)
    y = epilogue(even + odd, bias[None, :], ACTIVATION).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row[:, None] * n + column[None, :], y, mask=(row < m)[:, None] & (column < n)[None, :])


def up(size, step):
    return triton.cdiv(size, step) * step


SCRATCH = {}


def custom_kernel(data):
    a, b, bias, activation = data
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n, dtype=torch.float16, device="cuda")
    key = up(m, 64), up(n, 64), up(k, 64), a.dtype
    if key not in SCRATCH:
        SCRATCH[key] = (
            torch.empty(key[0], key[2], dtype=a.dtype, device="cuda"),
            torch.empty(key[1], key[2], dtype=b.dtype, device="cuda"),
        )
    whole_a, whole_b = SCRATCH[key]
    for whole, part in ((whole_a, a), (whole_b, b.t())):
        whole[part.shape[0] :].zero_()
        whole[: part.shape[0], part.shape[1] :] = 0
        whole[: part.shape[0], : part.shape[1]] = part
    matmul[(key[0] // 64, key[1] // 64)](
        whole_a, whole_b, bias, out, m, n, key[2], ACTIVATION=activation, TILE=64, DEPTH=32
    )
    return out
