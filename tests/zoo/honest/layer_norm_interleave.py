"""LayerNorm that reads even and odd columns apart and interleaves them again for the store."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "layer_norm", "kind": "join and interleave"}


@triton.jit
def layer_norm(x_ptr, weight_ptr, bias_ptr, y_ptr, rows, columns, HALF: tl.constexpr):
    row = tl.program_id(0)
    even = 2 * tl.arange(0, HALF)
    odd = even + 1
    x_ptr += row * columns
    a = tl.load(x_ptr + even, mask=even < columns, other=0.0).to(tl.float32)
    b = tl.load(x_ptr + odd, mask=odd < columns, other=0.0).to(tl.float32)
    mean = (tl.sum(a, 0) + tl.sum(b, 0)) / columns
    a = tl.where(even < columns, a - mean, 0.0)
    b = tl.where(odd < columns, b - mean, 0.0)
    pairs = tl.join(a * a, b * b)
    scale = tl.rsqrt(tl.sum(tl.sum(pairs, 1), 0) / columns + 1e-5)
    column = tl.arange(0, 2 * HALF)
    weight = tl.load(weight_ptr + column, mask=column < columns, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + column, mask=column < columns, other=0.0).to(tl.float32)
    y = tl.fma(tl.interleave(a, b) * scale, weight, bias)
    tl.store(y_ptr + row * columns + column, y.to(y_ptr.dtype.element_ty), mask=column < columns)


def custom_kernel(data):
    x, weight, bias = data
    rows, columns = x.shape
    y = torch.empty_like(x)
    layer_norm[(rows,)](x, weight, bias, y, rows, columns, HALF=max(1, triton.next_power_of_2(columns) // 2))
    return y
