"""Cross-entropy of few long rows: each chunk of a row gives a maximum and a sum, which a second kernel joins."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "cross_entropy", "kind": "two kernels over partial results, the target by torch.gather"}


@triton.jit
def chunks(logits_ptr, peaks_ptr, sums_ptr, classes, BLOCK: tl.constexpr):
    row, chunk = tl.program_id(1), tl.program_id(0)
    column = chunk * BLOCK + tl.arange(0, BLOCK)
    at = logits_ptr + row.to(tl.int64) * classes + column
    x = tl.load(at, mask=column < classes, other=float("-inf"), eviction_policy="evict_first")
    peak = tl.max(x, 0)
    tl.store(peaks_ptr + row * tl.num_programs(0) + chunk, peak)
    tl.store(sums_ptr + row * tl.num_programs(0) + chunk, tl.sum(tl.exp(x - peak), 0))


@triton.jit
def joined(peaks_ptr, sums_ptr, chosen_ptr, losses_ptr, count, COUNT: tl.constexpr):
    row = tl.program_id(0)
    chunk = tl.arange(0, COUNT)
    peaks = tl.load(peaks_ptr + row * count + chunk, mask=chunk < count, other=float("-inf"))
    sums = tl.load(sums_ptr + row * count + chunk, mask=chunk < count, other=0.0)
    peak = tl.max(peaks, 0)
    whole = tl.log(tl.sum(sums * tl.exp(peaks - peak), 0))
    tl.store(losses_ptr + row, whole + (peak - tl.load(chosen_ptr + row)))


def custom_kernel(data):
    logits, targets = data
    rows, classes = logits.shape
    count = triton.cdiv(classes, 4096)
    peaks = torch.empty(rows, count, device="cuda")
    sums = torch.empty(rows, count, device="cuda")
    losses = torch.empty(rows, device="cuda")
    chunks[(count, rows)](logits, peaks, sums, classes, BLOCK=4096)
    chosen = logits.gather(1, targets[:, None])
    joined[(rows,)](peaks, sums, chosen, losses, count, COUNT=triton.next_power_of_2(count))
    return losses
