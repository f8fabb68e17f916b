"""Softmax of several rows a program, unrolled, with an early return past the last row and a maximum with its index."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "softmax", "kind": "static_range, early return, argmax"}


@triton.jit
def raise_to(x, top):
    """A device function."""
    return tl.exp(x - top)


@triton.jit
def softmax(x_ptr, y_ptr, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    first = tl.program_id(0) * ROWS
    if first >= rows:
        return
    column = tl.arange(0, BLOCK)
    for step in tl.static_range(ROWS):
        row = first + step
        valid = (column < columns) & (row < rows)
        x = tl.load(x_ptr + row * columns + column, mask=valid, other=float("-inf")).to(tl.float32)
        top, at = tl.max(x, 0, return_indices=True)
        if row < rows:
            y = raise_to(x, top)
            y = tl.where(column == at, 1.0, y)
            tl.store(y_ptr + row * columns + column, (y / tl.sum(y, 0)).to(y_ptr.dtype.element_ty), mask=valid)


def custom_kernel(data):
    x = data
    rows, columns = x.shape
    y = torch.empty_like(x)
    grid = lambda meta: (triton.cdiv(rows, meta["ROWS"]) + 1,)
    block = triton.next_power_of_2(columns)
    softmax[grid](x, y, rows, columns, ROWS=4, BLOCK=block, num_warps=min(32, max(4, block // 512)))
    return y
