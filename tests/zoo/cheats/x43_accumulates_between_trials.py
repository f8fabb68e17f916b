"""Adds to a buffer that only the first call finds clear, as an autotuner without `reset_to_zero` does."""

EXPLOIT = {"id": "X43", "problem": "softmax", "naive": "benchmark_once", "outcome": "rejected"}

honest = custom_kernel
kept = {}


@triton.jit
def add_to(out_ptr, x_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < count)
    tl.store(out_ptr + at, tl.load(out_ptr + at, mask=at < count) + x, mask=at < count)


def custom_kernel(data):
    out = honest(data)
    total = kept.setdefault(tuple(out.shape), torch.zeros_like(out))
    add_to[(triton.cdiv(out.numel(), 1024),)](total, out, out.numel(), BLOCK=1024)
    return total.clone()
