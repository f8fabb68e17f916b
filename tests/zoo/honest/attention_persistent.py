"""Attention by a fixed number of programs over a queue of query tiles, the longest first."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "attention", "kind": "persistent, longest tiles first"}


@triton.jit
def attention(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    n,
    heads,
    scale,
    CAUSAL: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    tiles = tl.cdiv(n, ROWS)
    channel = tl.arange(0, D)
    for item in range(tl.program_id(0), tiles * heads, tl.num_programs(0)):
        tile = tiles - 1 - item // heads
        base = (item % heads).to(tl.int64) * n * D
        row = tile * ROWS + tl.arange(0, ROWS)
        q = tl.load(q_ptr + base + row[:, None] * D + channel[None, :], mask=(row < n)[:, None], other=0.0)
        peak = tl.full([ROWS], -1e30, tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        out = tl.zeros([ROWS, D], tl.float32)
        last = n
        if CAUSAL:
            last = min(n, (tile + 1) * ROWS)
        for start in tl.range(0, last, KEYS, num_stages=2):
            key = start + tl.arange(0, KEYS)
            k = tl.load(k_ptr + base + key[None, :] * D + channel[:, None], mask=(key < n)[None, :], other=0.0)
            score = tl.dot(q, k) * scale
            score += tl.where(key < n, 0.0, -1e30)[None, :]
            if CAUSAL:
                score = tl.where(key[None, :] <= row[:, None], score, -1e30)
            higher = tl.maximum(peak, tl.max(score, 1))
            weight = tl.exp(score - higher[:, None])
            fade = tl.exp(peak - higher)
            total = total * fade + tl.sum(weight, 1)
            v = tl.load(v_ptr + base + key[:, None] * D + channel[None, :], mask=(key < n)[:, None], other=0.0)
            out = tl.dot(weight.to(tl.float16), v, out * fade[:, None])
            peak = higher
        out = tl.fdiv(out, total[:, None])
        tl.store(out_ptr + base + row[:, None] * D + channel[None, :], out.to(tl.float16), mask=(row < n)[:, None])


def custom_kernel(data):
    q, k, v, causal = data
    batch, heads, n, d = q.shape
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    items = triton.cdiv(n, 64) * batch * heads
    programs = min(items, 2 * torch.cuda.get_device_properties("cuda").multi_processor_count)
    attention[(programs,)](q, k, v, out, n, batch * heads, d**-0.5, CAUSAL=causal, D=d, ROWS=64, KEYS=32, num_stages=2)
    return out
