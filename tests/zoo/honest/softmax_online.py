"""Softmax in two passes over a row of any length, with a running maximum and sum."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "softmax", "kind": "online softmax over a runtime bound"}


@triton.jit
def softmax(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * columns
    y_ptr += row * columns
    highest = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + column, mask=column < columns, other=float("-inf")).to(tl.float32)
        new = tl.maximum(highest, x)
        safe = tl.where(new == float("-inf"), 0.0, new)
        total = total * tl.exp(highest - safe) + tl.exp(x - safe)
        highest = new
    top = tl.max(highest, 0)
    whole = tl.sum(total * tl.exp(highest - top), 0)
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + column, mask=column < columns, other=float("-inf")).to(tl.float32)
        tl.store(y_ptr + column, (tl.exp(x - top) / whole).to(y_ptr.dtype.element_ty), mask=column < columns)


def custom_kernel(data):
    x = data
    rows, columns = x.shape
    y = torch.empty_like(x)
    softmax[(rows,)](x, y, columns, BLOCK=1024, num_warps=8)
    return y
