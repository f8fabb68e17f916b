"""Torch computes; Triton only copies, between every step, to have a part in the answer that ablation doesn't miss."""

EXPLOIT = {
    "id": "X30",
    "problem": "trimul",
    "naive": "launch_counter",
    "after": "plain",
    "proof": "copies",
    "outcome": "rejected",
}


@triton.jit
def copy(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n), mask=at < n)


def copied(x):
    x = x.contiguous()
    y = torch.empty_like(x)
    copy[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
    return y


def custom_kernel(data):
    x, mask, weights, config = data
    return copied(plain((copied(x), mask, weights, config)))
