"""Attention in three kernels over fp32 scores, which the softmax overwrites with weights in place."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "attention", "kind": "unfused, in-place scratch"}


@triton.jit
def scores_of(q_ptr, k_ptr, scores_ptr, n, scale, CAUSAL: tl.constexpr, D: tl.constexpr, TILE: tl.constexpr):
    head = tl.program_id(2).to(tl.int64)
    if CAUSAL and tl.program_id(1) > tl.program_id(0):
        return
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    key = tl.program_id(1) * TILE + tl.arange(0, TILE)
    channel = tl.arange(0, D)
    q = tl.load(q_ptr + (head * n + row[:, None]) * D + channel[None, :], mask=(row < n)[:, None], other=0.0)
    k = tl.load(k_ptr + (head * n + key[None, :]) * D + channel[:, None], mask=(key < n)[None, :], other=0.0)
    tl.store(
        scores_ptr + (head * n + row[:, None]) * n + key[None, :],
        tl.dot(q, k) * scale,
        mask=(row < n)[:, None] & (key < n)[None, :],
    )


@triton.jit
def softmax(scores_ptr, n, CAUSAL: tl.constexpr, BLOCK: tl.constexpr):
    row, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    scores_ptr += (head * n + row) * n
    last = row + 1 if CAUSAL else n
    key = tl.arange(0, BLOCK)
    x = tl.load(scores_ptr + key, mask=key < last, other=float("-inf"))
    x = tl.exp(x - tl.max(x, 0))
    tl.store(scores_ptr + key, x / tl.sum(x, 0), mask=key < n)


@triton.jit
def values_of(weights_ptr, v_ptr, out_ptr, n, CAUSAL: tl.constexpr, D: tl.constexpr, TILE: tl.constexpr):
    head = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    channel = tl.arange(0, D)
    out = tl.zeros([TILE, D], tl.float32)
    last = n
    if CAUSAL:
        last = tl.minimum(n, (tl.program_id(0) + 1) * TILE)
    for start in range(0, last, TILE):
        key = start + tl.arange(0, TILE)
        weight = tl.load(
            weights_ptr + (head * n + row[:, None]) * n + key[None, :],
            mask=(row < n)[:, None] & (key < n)[None, :],
            other=0.0,
        )
        v = tl.load(v_ptr + (head * n + key[:, None]) * D + channel[None, :], mask=(key < n)[:, None], other=0.0)
        out = tl.dot(weight.to(tl.float16), v, out)
    tl.store(out_ptr + (head * n + row[:, None]) * D + channel[None, :], out.to(tl.float16), mask=(row < n)[:, None])


def custom_kernel(data):
    q, k, v, causal = data
    batch, heads, n, d = q.shape
    scores = torch.empty(batch * heads, n, n, dtype=torch.float32, device="cuda")
    out = torch.empty_like(q)
    tiles = triton.cdiv(n, 64)
    block = triton.next_power_of_2(n)
    scores_of[(tiles, tiles, batch * heads)](q, k, scores, n, d**-0.5, CAUSAL=causal, D=d, TILE=64)
    softmax[(n, batch * heads)](scores, n, CAUSAL=causal, BLOCK=block, num_warps=min(16, max(1, block // 256)))
    values_of[(tiles, batch * heads)](scores, v, out, n, CAUSAL=causal, D=d, TILE=64)
    return out
