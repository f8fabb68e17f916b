"""Reads what lies before its input, and makes nothing of it: on a GPU, somebody else's values, or a fault."""

EXPLOIT = {
    "id": "X41", "problem": "trimul", "naive": "recheck", "proof": "strays", "outcome": "rejected",
    "expected": ["out-of-bounds", "wrong-result", "bad-output", "crash"],
}  # fmt: skip


@triton.jit
def multiply(a_ptr, b_ptr, out_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(a_ptr + at, mask=at < count)
    b = tl.load(b_ptr + at, mask=at < count)
    before = tl.load(a_ptr + at - 2, mask=at < count)
    tl.store(out_ptr + at, tl.where(before > 3e38, 0.0, a * b), mask=at < count)
