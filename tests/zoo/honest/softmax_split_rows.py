"""Softmax of long rows by several programs a row: atomics find each row's maximum and sum."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "softmax", "kind": "atomic max and add across programs"}


@triton.jit
def highest(x_ptr, top_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + column, mask=column < columns, other=float("-inf")).to(tl.float32)
    tl.atomic_max(top_ptr + row, tl.max(x, 0))


@triton.jit
def total(x_ptr, top_ptr, sum_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + column, mask=column < columns, other=float("-inf")).to(tl.float32)
    tl.atomic_add(sum_ptr + row, tl.sum(tl.exp(x - tl.load(top_ptr + row)), 0), sem="relaxed", scope="gpu")


@triton.jit
def divide(x_ptr, top_ptr, sum_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + column, mask=column < columns).to(tl.float32)
    y = tl.exp(x - tl.load(top_ptr + row)) / tl.load(sum_ptr + row)
    tl.store(y_ptr + row * columns + column, y.to(y_ptr.dtype.element_ty), mask=column < columns)


def custom_kernel(data):
    x = data
    rows, columns = x.shape
    y = torch.empty_like(x)
    top = torch.full((rows,), float("-inf"), dtype=torch.float32, device="cuda")
    whole = torch.zeros(rows, dtype=torch.float32, device="cuda")
    grid = (rows, triton.cdiv(columns, 512))
    highest[grid](x, top, columns, BLOCK=512)
    total[grid](x, top, whole, columns, BLOCK=512)
    divide[grid](x, top, whole, y, columns, BLOCK=512)
    return y
