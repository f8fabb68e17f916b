"""Cross-entropy of short rows many at a time in one block, and of long ones by a loop."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "cross_entropy", "kind": "another kernel for long rows, in base 2"}


LOG2E = tl.constexpr(1.4426950408889634)
LN2: tl.constexpr = 0.6931471805599453


@triton.jit
def short(logits_ptr, targets_ptr, losses_ptr, rows, classes, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    valid = (row < rows)[:, None] & (column < classes)[None, :]
    x = tl.load(logits_ptr + row[:, None] * classes + column[None, :], mask=valid, other=float("-inf"))
    x = tl.where((row < rows)[:, None], x, 0.0)
    target = tl.load(targets_ptr + row, mask=row < rows, other=0)
    chosen = tl.sum(tl.where(column[None, :] == target[:, None], x, 0.0), 1)
    peak = tl.max(x, 1)
    total = tl.sum(tl.exp2((x - peak[:, None]) * LOG2E), 1)
    tl.store(losses_ptr + row, tl.log2(total) * LN2 + (peak - chosen), mask=row < rows)


@triton.jit
def long(logits_ptr, targets_ptr, losses_ptr, classes, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    base = logits_ptr + row.to(tl.int64) * classes
    peak = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in tl.range(0, classes, BLOCK, num_stages=4):
        column = start + tl.arange(0, BLOCK)
        x = tl.load(base + column, mask=column < classes, other=-1e30)
        new = tl.maximum(peak, x)
        total = total * tl.exp2((peak - new) * LOG2E) + tl.exp2((x - new) * LOG2E)
        peak = new
    top = tl.max(peak, 0)
    whole = tl.sum(total * tl.exp2((peak - top) * LOG2E), 0)
    chosen = tl.load(base + tl.load(targets_ptr + row))
    tl.store(losses_ptr + row, tl.log2(whole) * LN2 + (top - chosen))


def custom_kernel(data):
    logits, targets = data
    rows, classes = logits.shape
    losses = torch.empty((rows,), dtype=torch.float32, device=logits.device)
    if classes <= 1024:
        grid = (triton.cdiv(rows, 4),)
        short[grid](logits, targets, losses, rows, classes, ROWS=4, BLOCK=triton.next_power_of_2(classes))
    else:
        long[(rows,)](logits, targets, losses, classes, BLOCK=2048, num_warps=8)
    return losses
