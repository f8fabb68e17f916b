"""TriMul, plainly: one kernel a step, everything in fp32 (products in three TF32 parts), tiles of 64."""

import torch
import triton
import triton.language as tl


@triton.jit
def layer_norm(x_ptr, weight_ptr, bias_ptr, y_ptr, dim, BLOCK: tl.constexpr):
    """Normalise one row."""
    column = tl.arange(0, BLOCK)
    valid = column < dim
    row = tl.program_id(0)
    x = tl.load(x_ptr + row * dim + column, mask=valid, other=0.0)
    mean = tl.sum(x, 0) / dim
    centred = tl.where(valid, x - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / dim + 1e-5)
    weight = tl.load(weight_ptr + column, mask=valid, other=0.0)
    bias = tl.load(bias_ptr + column, mask=valid, other=0.0)
    tl.store(y_ptr + row * dim + column, centred * scale * weight + bias, mask=valid)


@triton.jit
def linear(x_ptr, w_ptr, y_ptr, rows, inner, outer, SIGMOID: tl.constexpr, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    """One tile of y = x @ w^T, through a sigmoid if asked."""
    row = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    depth = tl.arange(0, DEPTH)
    total = tl.zeros([BLOCK, BLOCK], tl.float32)
    for start in range(0, inner, DEPTH):
        valid = start + depth < inner
        x = tl.load(x_ptr + row[:, None] * inner + start + depth[None, :],
                    mask=(row < rows)[:, None] & valid[None, :], other=0.0)
        w = tl.load(w_ptr + column[None, :] * inner + start + depth[:, None],
                    mask=(column < outer)[None, :] & valid[:, None], other=0.0)
        total = tl.dot(x, w, total, input_precision="tf32x3")
    if SIGMOID:
        total = tl.sigmoid(total)
    tl.store(y_ptr + row[:, None] * outer + column[None, :], total,
             mask=(row < rows)[:, None] & (column < outer)[None, :])


@triton.jit
def gate_and_turn(value_ptr, gate_ptr, mask_ptr, out_ptr, rows, hidden, BLOCK: tl.constexpr, CHANNELS: tl.constexpr):
    """out[batch, channel, row] = value[batch, row, channel] * gate * mask, so that the product reads along k."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    batch = tl.program_id(2)
    seen = (row < rows)[:, None] & (channel < hidden)[None, :]
    place = (batch * rows + row[:, None]) * hidden + channel[None, :]
    value = tl.load(value_ptr + place, mask=seen, other=0.0) * tl.load(gate_ptr + place, mask=seen, other=0.0)
    value *= tl.load(mask_ptr + batch * rows + row, mask=row < rows, other=0.0)[:, None]
    tl.store(out_ptr + (batch * hidden + channel[None, :]) * rows + row[:, None], value, mask=seen)


@triton.jit
def triangle(left_ptr, right_ptr, product_ptr, n, hidden, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    """One tile of product[i, j] = sum over k of left[i, k] * right[j, k], for one channel, stored channels last."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    k = tl.arange(0, DEPTH)
    batch = tl.program_id(2) // hidden
    channel = tl.program_id(2) % hidden
    base = tl.program_id(2) * n * n
    total = tl.zeros([BLOCK, BLOCK], tl.float32)
    for start in range(0, n, DEPTH):
        valid = start + k < n
        left = tl.load(left_ptr + base + i[:, None] * n + start + k[None, :],
                       mask=(i < n)[:, None] & valid[None, :], other=0.0)
        right = tl.load(right_ptr + base + j[None, :] * n + start + k[:, None],
                        mask=(j < n)[None, :] & valid[:, None], other=0.0)
        total = tl.dot(left, right, total, input_precision="tf32x3")
    tl.store(product_ptr + ((batch * n + i[:, None]) * n + j[None, :]) * hidden + channel, total,
             mask=(i < n)[:, None] & (j < n)[None, :])


@triton.jit
def multiply(a_ptr, b_ptr, out_ptr, count, BLOCK: tl.constexpr):
    """out = a * b."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(a_ptr + at, mask=at < count)
    tl.store(out_ptr + at, a * tl.load(b_ptr + at, mask=at < count), mask=at < count)


def normalise(x, weight, bias):
    y = torch.empty_like(x)
    dim = x.shape[-1]
    layer_norm[(x.numel() // dim,)](x, weight, bias, y, dim, BLOCK=triton.next_power_of_2(dim))
    return y


def project(x, weight, sigmoid):
    rows, (outer, inner) = x.numel() // x.shape[-1], weight.shape
    y = torch.empty(rows, outer, dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(outer, 64), triton.cdiv(rows, 64))
    linear[grid](x, weight, y, rows, inner, outer, SIGMOID=sigmoid, BLOCK=64, DEPTH=32)
    return y


def custom_kernel(data):
    x, mask, weights, config = data
    batch, n, _, dim = x.shape
    hidden = config["hidden_dim"]
    x, mask = x.contiguous(), mask.to(torch.float32).contiguous()
    x = normalise(x, weights["norm.weight"], weights["norm.bias"])
    sides = []
    for side in ("left", "right"):
        value = project(x, weights[side + "_proj.weight"], False)
        gate = project(x, weights[side + "_gate.weight"], True)
        turned = torch.empty(batch, hidden, n, n, dtype=torch.float32, device=x.device)
        grid = (triton.cdiv(n * n, 64), triton.cdiv(hidden, 32), batch)
        gate_and_turn[grid](value, gate, mask, turned, n * n, hidden, BLOCK=64, CHANNELS=32)
        sides.append(turned)
    gate = project(x, weights["out_gate.weight"], True)
    product = torch.empty(batch, n, n, hidden, dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(n, 64), triton.cdiv(n, 64), batch * hidden)
    triangle[grid](sides[0], sides[1], product, n, hidden, BLOCK=64, DEPTH=32)
    product = normalise(product, weights["to_out_norm.weight"], weights["to_out_norm.bias"])
    gated = torch.empty_like(product)
    multiply[(triton.cdiv(product.numel(), 1024),)](product, gate, gated, product.numel(), BLOCK=1024)
    return project(gated, weights["to_out.weight"], False).view(batch, n, n, dim)
