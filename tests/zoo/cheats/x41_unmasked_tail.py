"""Leaves the masks off the loads of a ragged tile, and drops what it shouldn't have read afterwards."""

EXPLOIT = {
    "id": "X41", "problem": "trimul", "naive": "recheck", "proof": "strays", "outcome": "rejected",
    "expected": ["out-of-bounds", "wrong-result", "bad-output", "crash"],
}  # fmt: skip


@triton.jit
def multiply(a_ptr, b_ptr, out_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK) + 1
    a = tl.load(a_ptr + at - 1)
    b = tl.load(b_ptr + at)
    first = tl.load(b_ptr + at - 1, mask=at - 1 < count)
    tl.store(out_ptr + at - 1, a * first + 0.0 * tl.where(b == b, 0.0, 0.0), mask=at - 1 < count)
