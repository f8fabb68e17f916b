"""TriMul with the first LayerNorm, the out gate and the last projection in torch, and the rest in Triton."""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

HONEST = {"problem": "trimul", "kind": "plain torch for parts, Triton for the rest", "parameters": {"n": 256}}


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
def triangle(left_ptr, right_ptr, product_ptr, n, TILE: tl.constexpr, DEPTH: tl.constexpr):
    """One tile of left @ right^T of one channel."""
    i = tl.program_id(0) * TILE + tl.arange(0, TILE)
    j = tl.program_id(1) * TILE + tl.arange(0, TILE)
    k = tl.arange(0, DEPTH)
    base = tl.program_id(2) * n * n
    total = tl.zeros([TILE, TILE], tl.float32)
    for start in range(0, n, DEPTH):
        valid = start + k < n
        left = tl.load(
            left_ptr + base + i[:, None] * n + start + k[None, :], mask=(i < n)[:, None] & valid[None, :], other=0.0
        )
        right = tl.load(
            right_ptr + base + j[None, :] * n + start + k[:, None], mask=(j < n)[None, :] & valid[:, None], other=0.0
        )
        total = tl.dot(left, right, total)
    tl.store(
        product_ptr + base + i[:, None] * n + j[None, :],
        total.to(product_ptr.dtype.element_ty),
        mask=(i < n)[:, None] & (j < n)[None, :],
    )


@triton.jit
def norm_gate(
    product_ptr,
    gate_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    rows,
    per_batch,
    hidden,
    ROWS: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, HIDDEN)
    valid = (row < rows)[:, None] & (channel < hidden)[None, :]
    at = ((row // per_batch)[:, None] * hidden + channel[None, :]) * per_batch + (row % per_batch)[:, None]
    x = tl.load(product_ptr + at, mask=valid, other=0.0).to(tl.float32)
    mean = tl.sum(x, 1) / hidden
    x = tl.where(valid, x - mean[:, None], 0.0)
    x *= tl.rsqrt(tl.sum(x * x, 1) / hidden + 1e-5)[:, None]
    x = x * tl.load(weight_ptr + channel, mask=channel < hidden)[None, :]
    x += tl.load(bias_ptr + channel, mask=channel < hidden)[None, :]
    at = row[:, None] * hidden + channel[None, :]
    tl.store(
        out_ptr + at, (x * tl.sigmoid(tl.load(gate_ptr + at, mask=valid).to(tl.float32))).to(tl.float16), mask=valid
    )


def custom_kernel(data):
    x, mask, weights, config = data
    batch, n, _, dim = x.shape
    hidden, rows = config["hidden_dim"], batch * n * n
    x = F.layer_norm(x, (dim,), eps=1e-5, weight=weights["norm.weight"], bias=weights["norm.bias"]).half()
    left = torch.empty(batch, hidden, n, n, dtype=torch.float16, device="cuda")
    right = torch.empty_like(left)
    grid = (triton.cdiv(rows, 64), triton.cdiv(hidden, 32))
    for name, turned in (("left", left), ("right", right)):
        value, gate = weights[f"{name}_proj.weight"], weights[f"{name}_gate.weight"]
        side[grid](x, mask, value, gate, turned, rows, n * n, dim, hidden, ROWS=64, COLS=32, DEPTH=32)
    product = torch.empty_like(left)
    triangle[(triton.cdiv(n, 64), triton.cdiv(n, 64), batch * hidden)](left, right, product, n, TILE=64, DEPTH=32)
    gate = F.linear(x, weights["out_gate.weight"].half())
    out = torch.empty(batch, n, n, hidden, dtype=torch.float16, device="cuda")
    norm_gate[(triton.cdiv(rows, 32),)](
        product,
        gate,
        weights["to_out_norm.weight"],
        weights["to_out_norm.bias"],
        out,
        rows,
        n * n,
        hidden,
        ROWS=32,
        HIDDEN=triton.next_power_of_2(hidden),
    )
    return F.linear(out, weights["to_out.weight"].half()).float()
