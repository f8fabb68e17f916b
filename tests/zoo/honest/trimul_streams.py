"""TriMul whose two sides are projected on two streams, joined before the product."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "trimul", "kind": "side streams, joined"}


@triton.jit
def normalise(x_ptr, weight_ptr, bias_ptr, y_ptr, dim, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    valid = column < dim
    row = tl.program_id(0)
    x = tl.load(x_ptr + row * dim + column, mask=valid, other=0.0)
    mean = tl.sum(x, 0) / dim
    centred = tl.where(valid, x - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / dim + 1e-5)
    weight, bias = tl.load(weight_ptr + column, mask=valid), tl.load(bias_ptr + column, mask=valid)
    tl.store(y_ptr + row * dim + column, (centred * scale * weight + bias).to(tl.float16), mask=valid)


@triton.jit
def side(
    x_ptr,
    mask_ptr,
    value_ptr,
    gate_ptr,
    out_ptr,
    rows,
    per_batch,
    dim,
    hidden,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * COLS + tl.arange(0, COLS)
    depth = tl.arange(0, DEPTH)
    value = tl.zeros([ROWS, COLS], tl.float32)
    gate = tl.zeros([ROWS, COLS], tl.float32)
    for start in range(0, dim, DEPTH):
        inside = start + depth < dim
        x = tl.load(
            x_ptr + row[:, None] * dim + start + depth[None, :], mask=(row < rows)[:, None] & inside[None, :], other=0.0
        )
        at = channel[None, :] * dim + start + depth[:, None]
        valid = (channel < hidden)[None, :] & inside[:, None]
        value = tl.dot(x, tl.load(value_ptr + at, mask=valid, other=0.0).to(tl.float16), value)
        gate = tl.dot(x, tl.load(gate_ptr + at, mask=valid, other=0.0).to(tl.float16), gate)
    keep = tl.load(mask_ptr + row, mask=row < rows, other=0).to(tl.float32)[:, None]
    place = ((row // per_batch)[:, None] * hidden + channel[None, :]) * per_batch + (row % per_batch)[:, None]
    tl.store(
        out_ptr + place,
        (value * tl.sigmoid(gate) * keep).to(tl.float16),
        mask=(row < rows)[:, None] & (channel < hidden)[None, :],
    )


@triton.jit
def finish(
    product_ptr,
    gate_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    weight_ptr,
    out_ptr,
    rows,
    per_batch,
    dim,
    hidden,
    ROWS: tl.constexpr,
    HIDDEN: tl.constexpr,
    COLS: tl.constexpr,
):
    """LayerNorm over the channels, the gate and the last projection of some rows."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, HIDDEN)
    seen, known = (row < rows)[:, None], (channel < hidden)[None, :]
    place = ((row // per_batch)[:, None] * hidden + channel[None, :]) * per_batch + (row % per_batch)[:, None]
    product = tl.load(product_ptr + place, mask=seen & known, other=0.0).to(tl.float32)
    mean = tl.sum(product, 1)[:, None] / hidden
    centred = tl.where(known, product - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 1)[:, None] / hidden + 1e-5)
    weight = tl.load(norm_weight_ptr + channel, mask=channel < hidden, other=0.0)[None, :]
    bias = tl.load(norm_bias_ptr + channel, mask=channel < hidden, other=0.0)[None, :]
    gate = tl.load(gate_ptr + row[:, None] * hidden + channel[None, :], mask=seen & known, other=0.0).to(tl.float32)
    y = ((centred * scale * weight + bias) * gate).to(tl.float16)
    for start in range(0, dim, COLS):
        column = start + tl.arange(0, COLS)
        w = tl.load(
            weight_ptr + column[None, :] * hidden + channel[:, None],
            mask=(column < dim)[None, :] & (channel < hidden)[:, None],
            other=0.0,
        ).to(tl.float16)
        tl.store(out_ptr + row[:, None] * dim + column[None, :], tl.dot(y, w), mask=seen & (column < dim)[None, :])


def custom_kernel(data):
    x, mask, weights, config = data
    batch, n, _, dim = x.shape
    hidden, rows = config["hidden_dim"], batch * n * n
    y = torch.empty(rows, dim, dtype=torch.float16, device="cuda")
    normalise[(rows,)](x, weights["norm.weight"], weights["norm.bias"], y, dim, BLOCK=triton.next_power_of_2(dim))
    left = torch.empty(batch * hidden, n, n, dtype=torch.float16, device="cuda")
    right = torch.empty_like(left)
    here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
    ready = torch.cuda.Event()
    ready.record(here)
    grid = (triton.cdiv(rows, 64), triton.cdiv(hidden, 32))
    with torch.cuda.stream(aside):
        aside.wait_event(ready)
        side[grid](
            y,
            mask,
            weights["right_proj.weight"],
            weights["right_gate.weight"],
            right,
            rows,
            n * n,
            dim,
            hidden,
            ROWS=64,
            COLS=32,
            DEPTH=32,
        )
        gate = torch.sigmoid(y @ weights["out_gate.weight"].half().t())
    side[grid](
        y,
        mask,
        weights["left_proj.weight"],
        weights["left_gate.weight"],
        left,
        rows,
        n * n,
        dim,
        hidden,
        ROWS=64,
        COLS=32,
        DEPTH=32,
    )
    here.wait_stream(aside)
    for tensor in (right, gate):
        tensor.record_stream(here)
    product = torch.matmul(left, right.transpose(-1, -2))
    out = torch.empty_like(x)
    finish[(triton.cdiv(rows, 64),)](
        product,
        gate,
        weights["to_out_norm.weight"],
        weights["to_out_norm.bias"],
        weights["to_out.weight"],
        out,
        rows,
        n * n,
        dim,
        hidden,
        ROWS=64,
        HIDDEN=max(16, triton.next_power_of_2(hidden)),
        COLS=64,
        num_warps=4,
    )
    return out
