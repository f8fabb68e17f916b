"""TriMul with channels last throughout: strided loads, fp32 operands and TF32 products."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "trimul", "kind": "channels-last triangle product in TF32"}


@triton.jit
def normalise(x_ptr, weight_ptr, bias_ptr, y_ptr, width, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    valid = column < width
    row = tl.program_id(0)
    x = tl.load(x_ptr + row * width + column, mask=valid, other=0.0)
    mean = tl.sum(x, 0) / width
    centred = tl.where(valid, x - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / width + 1e-5)
    weight = tl.load(weight_ptr + column, mask=valid)
    bias = tl.load(bias_ptr + column, mask=valid)
    tl.store(y_ptr + row * width + column, centred * scale * weight + bias, mask=valid)


@triton.jit
def linear(x_ptr, weight_ptr, y_ptr, rows, inner, outer, TILE: tl.constexpr, DEPTH: tl.constexpr):
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    column = tl.program_id(1) * TILE + tl.arange(0, TILE)
    depth = tl.arange(0, DEPTH)
    total = tl.zeros([TILE, TILE], tl.float32)
    for start in range(0, inner, DEPTH):
        valid = start + depth < inner
        x = tl.load(
            x_ptr + row[:, None] * inner + start + depth[None, :],
            mask=(row < rows)[:, None] & valid[None, :],
            other=0.0,
        )
        weight = tl.load(
            weight_ptr + column[None, :] * inner + start + depth[:, None],
            mask=(column < outer)[None, :] & valid[:, None],
            other=0.0,
        )
        total += tl.dot(x, weight, input_precision="tf32")
    tl.store(
        y_ptr + row[:, None] * outer + column[None, :], total, mask=(row < rows)[:, None] & (column < outer)[None, :]
    )


@triton.jit
def triangle(sides_ptr, mask_ptr, product_ptr, n, hidden, TILE: tl.constexpr, DEPTH: tl.constexpr):
    """Gates and mask as the operands come in: `sides` is [batch, n, n, 5, hidden]."""
    i = tl.program_id(0) * TILE + tl.arange(0, TILE)
    j = tl.program_id(1) * TILE + tl.arange(0, TILE)
    k = tl.arange(0, DEPTH)
    batch = tl.program_id(2) // hidden
    channel = tl.program_id(2) % hidden
    total = tl.zeros([TILE, TILE], tl.float32)
    for start in range(0, n, DEPTH):
        valid = (i < n)[:, None] & (start + k < n)[None, :]
        row = (batch * n + i[:, None]) * n + start + k[None, :]
        keep = tl.load(mask_ptr + row, mask=valid, other=0).to(tl.float32)
        value = tl.load(sides_ptr + row * 5 * hidden + channel, mask=valid, other=0.0)
        gate = tl.load(sides_ptr + (row * 5 + 1) * hidden + channel, mask=valid, other=0.0)
        left = value * tl.sigmoid(gate) * keep
        valid = (j < n)[None, :] & (start + k < n)[:, None]
        row = (batch * n + j[None, :]) * n + start + k[:, None]
        keep = tl.load(mask_ptr + row, mask=valid, other=0).to(tl.float32)
        value = tl.load(sides_ptr + (row * 5 + 2) * hidden + channel, mask=valid, other=0.0)
        gate = tl.load(sides_ptr + (row * 5 + 3) * hidden + channel, mask=valid, other=0.0)
        right = value * tl.sigmoid(gate) * keep
        total = tl.dot(left, right, total)
    place = ((batch * n + i[:, None]) * n + j[None, :]) * hidden + channel
    tl.store(product_ptr + place, total, mask=(i < n)[:, None] & (j < n)[None, :])


@triton.jit
def gated(x_ptr, sides_ptr, hidden, BLOCK: tl.constexpr):
    """In place: x *= sigmoid(out gate)."""
    channel = tl.arange(0, BLOCK)
    row = tl.program_id(0)
    gate = tl.load(sides_ptr + (row * 5 + 4) * hidden + channel, mask=channel < hidden)
    x = tl.load(x_ptr + row * hidden + channel, mask=channel < hidden)
    tl.store(x_ptr + row * hidden + channel, x * tl.sigmoid(gate), mask=channel < hidden)


SIDES = ("left_proj", "left_gate", "right_proj", "right_gate", "out_gate")


def pack(weights):
    return torch.cat([weights[side + ".weight"] for side in SIDES])


def multiply(x, weight):
    y = torch.empty(x.shape[0], weight.shape[0], dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(x.shape[0], 64), triton.cdiv(weight.shape[0], 64))
    linear[grid](x, weight, y, x.shape[0], x.shape[1], weight.shape[0], TILE=64, DEPTH=32)
    return y


def custom_kernel(data):
    x, mask, weights, config = data
    batch, n, _, dim = x.shape
    hidden, rows = config["hidden_dim"], batch * n * n
    y = torch.empty(rows, dim, dtype=torch.float32, device="cuda")
    normalise[(rows,)](x, weights["norm.weight"], weights["norm.bias"], y, dim, BLOCK=triton.next_power_of_2(dim))
    sides = multiply(y, pack(weights))
    product = torch.empty(rows, hidden, dtype=torch.float32, device="cuda")
    grid = (triton.cdiv(n, 64), triton.cdiv(n, 64), batch * hidden)
    triangle[grid](sides, mask, product, n, hidden, TILE=64, DEPTH=16)
    width = triton.next_power_of_2(hidden)
    weight, bias = weights["to_out_norm.weight"], weights["to_out_norm.bias"]
    normalise[(rows,)](product, weight, bias, product, hidden, BLOCK=width)
    gated[(rows,)](product, sides, hidden, BLOCK=width)
    return multiply(product, weights["to_out.weight"]).view(batch, n, n, dim)
