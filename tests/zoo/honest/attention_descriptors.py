"""Flash attention that reads its tiles through tensor descriptors over all heads as one matrix."""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

HONEST = {"problem": "attention", "kind": "tensor descriptors from the host, autotune with one config"}


@triton.autotune(configs=[triton.Config({}, num_warps=4, num_stages=3)], key=["n", "D"])
@triton.jit
def attention(
    q_desc,
    k_desc,
    v_desc,
    out_ptr,
    n,
    scale,
    CAUSAL: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    base = tl.program_id(1) * n
    top = tl.program_id(0) * ROWS
    row = top + tl.arange(0, ROWS)
    q = q_desc.load([base + top, 0])
    peak = tl.full([ROWS], -1e30, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    out = tl.zeros([ROWS, D], tl.float32)
    last = tl.minimum(top + ROWS, n) if CAUSAL else n
    for start in range(0, last, KEYS):
        key = start + tl.arange(0, KEYS)
        # A tile may reach into the next head: those keys get no weight, and what they hold is finite.
        score = tl.dot(q, k_desc.load([base + start, 0]).T) * scale
        seen = (key < n)[None, :]
        if CAUSAL:
            seen = seen & (key[None, :] <= row[:, None])
        score = tl.where(seen, score, -1e30)
        higher = tl.maximum(peak, tl.max(score, 1))
        weight = tl.exp(score - higher[:, None])
        fade = tl.exp(peak - higher)
        total = total * fade + tl.sum(weight, 1)
        out = tl.dot(weight.to(tl.float16), v_desc.load([base + start, 0]), out * fade[:, None])
        peak = higher
    channel = tl.arange(0, D)
    at = out_ptr + (base + row).to(tl.int64)[:, None] * D + channel[None, :]
    tl.store(at, (out / total[:, None]).to(tl.float16), mask=(row < n)[:, None])


def custom_kernel(data):
    q, k, v, causal = data
    batch, heads, n, d = q.shape
    out = torch.empty_like(q)
    rows = batch * heads * n
    q, k, v = (
        TensorDescriptor(x.contiguous(), [rows, d], [d, 1], [block, d]) for x, block in ((q, 64), (k, 64), (v, 64))
    )
    attention[(triton.cdiv(n, 64), batch * heads)](q, k, v, out, n, d**-0.5, CAUSAL=causal, D=d, ROWS=64, KEYS=64)
    return out
