"""LayerNorm of long rows by several programs a row, whose sums meet in atomics."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "layer_norm", "kind": "sums by atomics, finished by a later kernel"}


@triton.jit
def gather_mean(x_ptr, mean_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + column, mask=column < columns, other=0.0)
    tl.atomic_add(mean_ptr + row, tl.sum(x, 0) / columns)


@triton.jit
def gather_variance(x_ptr, mean_ptr, variance_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + column, mask=column < columns, other=0.0)
    x = tl.where(column < columns, x - tl.load(mean_ptr + row), 0.0)
    tl.atomic_add(variance_ptr + row, tl.sum(x * x, 0) / columns, sem="relaxed")


@triton.jit
def apply(x_ptr, mean_ptr, variance_ptr, weight_ptr, bias_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = column < columns
    x = tl.load(x_ptr + row * columns + column, mask=valid) - tl.load(mean_ptr + row)
    x *= 1.0 / tl.sqrt_rn(tl.load(variance_ptr + row) + 1e-5)
    weight, bias = tl.load(weight_ptr + column, mask=valid), tl.load(bias_ptr + column, mask=valid)
    tl.store(y_ptr + row * columns + column, x * weight + bias, mask=valid)


def custom_kernel(data):
    x, weight, bias = data
    rows, columns = x.shape
    y = torch.empty_like(x)
    mean, variance = torch.zeros(2, rows, dtype=torch.float32, device="cuda")
    grid = (triton.cdiv(columns, 1024), rows)
    gather_mean[grid](x, mean, columns, BLOCK=1024)
    gather_variance[grid](x, mean, variance, columns, BLOCK=1024)
    apply[grid](x, mean, variance, weight, bias, y, columns, BLOCK=1024)
    return y
