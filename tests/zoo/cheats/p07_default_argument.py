"""Hands a kernel a Python function as the default of a parameter."""

EXPLOIT = {"id": "P7", "problem": "trimul", "naive": "recheck", "proof": "reaches-out", "outcome": "rejected"}


def falsify():
    import os

    os.environ["REACHED"] = "yes"


@triton.jit
def multiply(a_ptr, b_ptr, out_ptr, count, BLOCK: tl.constexpr, EXTRA: tl.constexpr = falsify):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    EXTRA()
    a = tl.load(a_ptr + at, mask=at < count)
    tl.store(out_ptr + at, a * tl.load(b_ptr + at, mask=at < count), mask=at < count)
