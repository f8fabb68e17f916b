"""Cross-entropy in one pass, which meets the target's logit on its way."""

import triton
import triton.language as tl

HONEST = {"problem": "cross_entropy", "kind": "online sum, no gather: the target's logit by a where mask"}


@triton.jit
def losses_of(logits_ptr, targets_ptr, losses_ptr, classes, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets_ptr + row)
    lane = tl.arange(0, BLOCK)
    peak = float("-inf")
    total = 0.0
    chosen = 0.0
    for start in range(0, classes, BLOCK):
        column = start + lane
        x = tl.load(logits_ptr + row * classes + column, mask=column < classes, other=float("-inf"))
        new = tl.maximum(peak, tl.max(x, 0))
        total = total * tl.exp(peak - new) + tl.sum(tl.exp(x - new), 0)
        chosen += tl.sum(tl.where(column == target, x, 0.0), 0)
        peak = new
    tl.store(losses_ptr + row, tl.log(total) + (peak - chosen))


def custom_kernel(data):
    logits, targets = data
    rows, classes = logits.shape
    losses = logits.new_empty(rows)
    losses_of[(rows,)](logits, targets, losses, classes, BLOCK=min(4096, triton.next_power_of_2(classes)), num_warps=8)
    return losses
