"""Flash attention in base 2: tiles before the diagonal without a mask, the diagonal with one."""

import math

import torch
import triton
import triton.language as tl

HONEST = {"problem": "attention", "kind": "inner device function with a constexpr stage, computed constants"}


LOG2E = 1.0 / math.log(2.0)


@triton.jit
def keys(
    out,
    total,
    peak,
    q,
    k_ptr,
    v_ptr,
    row,
    first,
    last,
    n,
    scale,
    D: tl.constexpr,
    KEYS: tl.constexpr,
    MASKED: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    channel = tl.arange(0, D)
    for start in range(first, last, KEYS):
        key = start + tl.arange(0, KEYS)
        k = tl.load(k_ptr + key[None, :] * D + channel[:, None], mask=(key < n)[None, :], other=0.0)
        score = tl.dot(q, k) * scale
        if MASKED:
            seen = (key < n)[None, :]
            if CAUSAL:
                seen = seen & (key[None, :] <= row[:, None])
            score = tl.where(seen, score, -1.0e6)
        higher = tl.maximum(peak, tl.max(score, 1))
        weight = tl.math.exp2(score - higher[:, None])
        fade = tl.math.exp2(peak - higher)
        total = total * fade + tl.sum(weight, 1)
        v = tl.load(v_ptr + key[:, None] * D + channel[None, :], mask=(key < n)[:, None], other=0.0)
        out = tl.dot(weight.to(v.dtype), v, out * fade[:, None])
        peak = higher
    return out, total, peak


@triton.jit
def attention(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    n,
    scale,
    CAUSAL: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    base = tl.program_id(1).to(tl.int64) * n * D
    top = tl.program_id(0) * ROWS
    row = top + tl.arange(0, ROWS)
    channel = tl.arange(0, D)
    at = base + row[:, None] * D + channel[None, :]
    q = tl.load(q_ptr + at, mask=(row < n)[:, None], other=0.0)
    peak = tl.full([ROWS], -1.0e6, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    out = tl.zeros([ROWS, D], tl.float32)
    whole = top if CAUSAL else n // KEYS * KEYS
    last = tl.minimum(top + ROWS, n) if CAUSAL else n
    k_ptr += base
    v_ptr += base
    out, total, peak = keys(out, total, peak, q, k_ptr, v_ptr, row, 0, whole, n, scale, D, KEYS, False, CAUSAL)
    out, total, peak = keys(out, total, peak, q, k_ptr, v_ptr, row, whole, last, n, scale, D, KEYS, True, CAUSAL)
    tl.store(out_ptr + at, (out / total[:, None]).to(tl.float16), mask=(row < n)[:, None])


def custom_kernel(data):
    q, k, v, causal = data
    batch, heads, n, d = q.shape
    out = torch.empty_like(q)
    grid = (triton.cdiv(n, 64), batch * heads, 1)
    attention[grid](q, k, v, out, n, LOG2E * d**-0.5, CAUSAL=causal, D=d, ROWS=64, KEYS=64, num_warps=4, num_stages=2)
    return out
