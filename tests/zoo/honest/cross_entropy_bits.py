"""Cross-entropy whose maximum is found by an integer atomic on the bits of the logits."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "cross_entropy", "kind": "atomic max on integer bits, bitcasts"}


@triton.jit
def turned(bits):
    """From the bits of a float to an int32 that rises with it, and back."""
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@triton.jit
def peaks_of(logits_ptr, peaks_ptr, classes, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(logits_ptr + row * classes + column, mask=column < classes, other=float("-inf"))
    tl.atomic_max(peaks_ptr + row, tl.max(turned(x.to(tl.int32, bitcast=True)), 0))


@triton.jit
def losses_of(logits_ptr, peaks_ptr, targets_ptr, losses_ptr, classes, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    peak = turned(tl.load(peaks_ptr + row)).to(tl.float32, bitcast=True)
    total = tl.zeros([BLOCK], tl.float32)
    for step in range(tl.cdiv(classes, BLOCK)):
        column = step * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(logits_ptr + row * classes + column, mask=column < classes, other=float("-inf"))
        total += tl.exp(x - peak)
    chosen = tl.load(logits_ptr + row * classes + tl.load(targets_ptr + row))
    tl.store(losses_ptr + row, tl.log(tl.sum(total, axis=0)) + (peak - chosen))


def custom_kernel(data):
    logits, targets = data
    rows, classes = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device="cuda")
    peaks = torch.full((rows,), torch.iinfo(torch.int32).min, dtype=torch.int32, device="cuda")
    peaks_of[(rows, triton.cdiv(classes, 2048))](logits, peaks, classes, BLOCK=2048)
    losses_of[(rows,)](logits, peaks, targets, losses, classes, BLOCK=2048)
    return losses
