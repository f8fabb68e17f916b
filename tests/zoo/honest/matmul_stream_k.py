"""Matmul by stream-k: every program gets the same number of steps along k, across the borders of tiles."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "matmul", "kind": "stream-k"}


@triton.jit
def epilogue(total, bias, ACTIVATION: tl.constexpr):
    total += bias.to(tl.float32)
    if ACTIVATION == "relu":
        total = tl.maximum(total, 0.0)
    elif ACTIVATION == "silu":
        total = total * tl.sigmoid(total)
    return total


@triton.jit
def stream(a_ptr, b_ptr, sums_ptr, m, n, k, steps, each, TILE: tl.constexpr, DEPTH: tl.constexpr):
    tiles_n = tl.cdiv(n, TILE)
    deep = tl.cdiv(k, DEPTH)
    step = tl.program_id(0) * each
    last = tl.minimum(step + each, steps)
    while step < last:
        tile = step // deep
        end = tl.minimum(last, (tile + 1) * deep)
        row = tile // tiles_n * TILE + tl.arange(0, TILE)
        column = tile % tiles_n * TILE + tl.arange(0, TILE)
        total = tl.zeros([TILE, TILE], tl.float32)
        for part in range(step - tile * deep, end - tile * deep):
            depth = part * DEPTH + tl.arange(0, DEPTH)
            a = tl.load(
                a_ptr + row[:, None] * k + depth[None, :], mask=(row < m)[:, None] & (depth < k)[None, :], other=0.0
            )
            b = tl.load(
                b_ptr + depth[:, None] * n + column[None, :],
                mask=(depth < k)[:, None] & (column < n)[None, :],
                other=0.0,
            )
            total += tl.dot(a, b)
        at = sums_ptr + row[:, None] * n + column[None, :]
        valid = (row < m)[:, None] & (column < n)[None, :]
        if end - step == deep:
            tl.store(at, total, mask=valid)
        else:
            tl.atomic_add(at, total, mask=valid)
        step = end


@triton.jit
def finish(sums_ptr, bias_ptr, out_ptr, count, n, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.load(sums_ptr + at, mask=at < count)
    y = epilogue(total, tl.load(bias_ptr + at % n, mask=at < count), ACTIVATION)
    tl.store(out_ptr + at, y.to(out_ptr.dtype.element_ty), mask=at < count)


def custom_kernel(data):
    a, b, bias, activation = data
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n, dtype=torch.float16, device="cuda")
    sums = torch.zeros(m, n, dtype=torch.float32, device="cuda")
    steps = triton.cdiv(m, 64) * triton.cdiv(n, 64) * triton.cdiv(k, 32)
    programs = min(steps, torch.cuda.get_device_properties("cuda").multi_processor_count)
    each = triton.cdiv(steps, programs)
    stream[(programs,)](a, b, sums, m, n, k, steps, each, TILE=64, DEPTH=32, num_stages=4)
    finish[(triton.cdiv(m * n, 1024),)](sums, bias, out, m * n, n, ACTIVATION=activation, BLOCK=1024)
    return out
