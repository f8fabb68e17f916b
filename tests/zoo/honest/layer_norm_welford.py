"""LayerNorm in one pass by Welford's rule, the lanes merged by a reduction of triples."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "layer_norm", "kind": "Welford with a reduction of tuples"}


@triton.jit
def merge(mean_a, squares_a, count_a, mean_b, squares_b, count_b):
    count = count_a + count_b
    share = tl.where(count == 0.0, 0.0, count_b / count)
    delta = mean_b - mean_a
    return mean_a + delta * share, squares_a + squares_b + delta * delta * count_a * share, count


@triton.jit
def layer_norm(x_ptr, weight_ptr, bias_ptr, y_ptr, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    mean = tl.zeros([BLOCK], tl.float32)
    squares = tl.zeros([BLOCK], tl.float32)
    count = tl.zeros([BLOCK], tl.float32)
    for start in range(0, columns, BLOCK):
        valid = start + lane < columns
        x = tl.load(x_ptr + row * columns + start + lane, mask=valid, other=0.0).to(tl.float32)
        count += valid.to(tl.float32)
        delta = tl.where(valid, x - mean, 0.0)
        mean += delta / tl.maximum(count, 1.0)
        squares += delta * tl.where(valid, x - mean, 0.0)
    mean, squares, count = tl.reduce((mean, squares, count), 0, merge)
    scale = tl.rsqrt(squares / columns + eps)
    for start in range(0, columns, BLOCK):
        valid = start + lane < columns
        x = tl.load(x_ptr + row * columns + start + lane, mask=valid, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + start + lane, mask=valid, other=0.0).to(tl.float32)
        bias = tl.load(bias_ptr + start + lane, mask=valid, other=0.0).to(tl.float32)
        y = (x - mean) * scale * weight + bias
        tl.store(y_ptr + row * columns + start + lane, y.to(y_ptr.dtype.element_ty), mask=valid)


def custom_kernel(data):
    x, weight, bias = data
    rows, columns = x.shape
    y = torch.empty_like(x)
    layer_norm[(rows,)](x, weight, bias, y, columns, 1e-5, BLOCK=512)
    return y
