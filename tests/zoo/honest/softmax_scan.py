"""Softmax by an associative scan of (maximum, sum) pairs, in a while loop over the row."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "softmax", "kind": "associative scan and a while loop"}


@triton.jit
def merge(top_a, sum_a, top_b, sum_b):
    top = tl.maximum(top_a, top_b)
    return top, sum_a * tl.exp(top_a - top) + sum_b * tl.exp(top_b - top)


@triton.jit
def softmax(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    top = float("-inf")
    whole = 0.0
    start = 0
    while start < columns:
        # Far below any value, and yet finite, so that two of them merge.
        x = tl.load(x_ptr + row * columns + start + lane, mask=start + lane < columns, other=-1e30).to(tl.float32)
        tops, sums = tl.associative_scan((x, tl.full([BLOCK], 1.0, tl.float32)), 0, merge)
        last_top = tl.sum(tl.where(lane == BLOCK - 1, tops, 0.0), 0)
        last_sum = tl.sum(tl.where(lane == BLOCK - 1, sums, 0.0), 0)
        top, whole = merge(top, whole, last_top, last_sum)
        start += BLOCK
    start = 0
    while start < columns:
        x = tl.load(x_ptr + row * columns + start + lane, mask=start + lane < columns, other=0.0).to(tl.float32)
        y = (tl.exp(x - top) / whole).to(y_ptr.dtype.element_ty)
        tl.store(y_ptr + row * columns + start + lane, y, mask=start + lane < columns)
        start += BLOCK


def custom_kernel(data):
    x = data
    rows, columns = x.shape
    y = torch.empty_like(x)
    softmax[(rows,)](x, y, columns, BLOCK=256)
    return y
