"""Calls a function of the module's own that isn't under triton.jit."""

EXPLOIT = {"id": "P7", "problem": "trimul", "naive": "recheck", "proof": "reaches-out", "outcome": "rejected"}


def helper(at):
    import os

    os.environ["REACHED"] = "yes"
    return at


@triton.jit
def multiply(a_ptr, b_ptr, out_ptr, count, BLOCK: tl.constexpr):
    at = helper(tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))
    a = tl.load(a_ptr + at, mask=at < count)
    tl.store(out_ptr + at, a * tl.load(b_ptr + at, mask=at < count), mask=at < count)
