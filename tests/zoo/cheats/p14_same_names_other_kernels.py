"""Defines a kernel twice: the first is launched, and what is read from the source is the second, which is empty."""

EXPLOIT = {"id": "P14", "problem": "trimul", "naive": "counted_by_source", "proof": "faster", "outcome": "rejected"}

real_linear = linear


@triton.jit
def linear(x_ptr, w_ptr, y_ptr, rows, inner, outer, SIGMOID: tl.constexpr, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.zeros([BLOCK], tl.float32), mask=at < 0)


linear = real_linear
