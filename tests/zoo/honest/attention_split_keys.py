"""Attention with the keys split over programs, whose parts a second kernel joins by their log-sums."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "attention", "kind": "split keys with a joining kernel"}


@triton.jit
def part(
    q_ptr,
    k_ptr,
    v_ptr,
    parts_ptr,
    logs_ptr,
    n,
    chunk,
    scale,
    CAUSAL: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    head, split = tl.program_id(1), tl.program_id(2)
    base = head.to(tl.int64) * n * D
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, D)
    q = tl.load(q_ptr + base + row[:, None] * D + channel[None, :], mask=(row < n)[:, None], other=0.0)
    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    out = tl.zeros([ROWS, D], tl.float32)
    for start in range(split * chunk, tl.minimum((split + 1) * chunk, n), KEYS):
        key = start + tl.arange(0, KEYS)
        inside = (key < n) & (key < (split + 1) * chunk)
        k = tl.load(k_ptr + base + key[:, None] * D + channel[None, :], mask=inside[:, None], other=0.0)
        seen = tl.broadcast_to(inside[None, :], [ROWS, KEYS])
        if CAUSAL:
            seen &= key[None, :] <= row[:, None]
        score = tl.where(seen, tl.dot(q, tl.trans(k)) * scale, float("-inf"))
        higher = tl.maximum(peak, tl.max(score, 1))
        safe = tl.where(higher == float("-inf"), 0.0, higher)
        weight = tl.exp(score - safe[:, None])
        fade = tl.exp(peak - safe)
        total = total * fade + tl.sum(weight, 1)
        v = tl.load(v_ptr + base + key[:, None] * D + channel[None, :], mask=inside[:, None], other=0.0)
        out = tl.dot(weight.to(tl.float16), v, out * fade[:, None])
        peak = higher
    at = (split * tl.num_programs(1) + head).to(tl.int64) * n + row
    tl.store(
        parts_ptr + at[:, None] * D + channel[None, :],
        out / tl.where(total == 0.0, 1.0, total)[:, None],
        mask=(row < n)[:, None],
    )
    tl.store(logs_ptr + at, tl.where(total == 0.0, float("-inf"), peak + tl.log(total)), mask=row < n)


@triton.jit
def joined(parts_ptr, logs_ptr, out_ptr, rows, SPLITS: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, D)
    peak = tl.full([ROWS], float("-inf"), tl.float32)
    for split in tl.static_range(SPLITS):
        log = tl.load(logs_ptr + split * rows + row, mask=row < rows, other=0.0)
        peak = tl.maximum(peak, log)
    total = tl.zeros([ROWS], tl.float32)
    out = tl.zeros([ROWS, D], tl.float32)
    for split in tl.static_range(SPLITS):
        share = tl.exp(tl.load(logs_ptr + split * rows + row, mask=row < rows, other=0.0) - peak)
        at = parts_ptr + (split * rows + row).to(tl.int64)[:, None] * D + channel[None, :]
        out += share[:, None] * tl.load(at, mask=(row < rows)[:, None], other=0.0)
        total += share
    tl.store(
        out_ptr + row.to(tl.int64)[:, None] * D + channel[None, :],
        (out / total[:, None]).to(tl.float16),
        mask=(row < rows)[:, None],
    )


SPLITS = 2


def custom_kernel(data):
    q, k, v, causal = data
    batch, heads, n, d = q.shape
    rows = batch * heads * n
    parts = torch.empty(SPLITS, rows, d, dtype=torch.float32, device="cuda")
    logs = torch.empty(SPLITS, rows, dtype=torch.float32, device="cuda")
    out = torch.empty_like(q)
    chunk = triton.cdiv(triton.cdiv(n, SPLITS), 32) * 32
    grid = (triton.cdiv(n, 64), batch * heads, SPLITS)
    part[grid](q, k, v, parts, logs, n, chunk, d**-0.5, CAUSAL=causal, D=d, ROWS=64, KEYS=32)
    joined[(triton.cdiv(rows, 32),)](parts, logs, out, rows, SPLITS=SPLITS, D=d, ROWS=32)
    return out
