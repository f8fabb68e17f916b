"""Writes one element past the end of its output."""

EXPLOIT = {
    "id": "X41", "problem": "trimul", "naive": "recheck", "proof": "strays", "outcome": "rejected",
    "expected": ["out-of-bounds", "wrong-result", "crash"],
}  # fmt: skip


@triton.jit
def multiply(a_ptr, b_ptr, out_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(a_ptr + at, mask=at < count)
    b = tl.load(b_ptr + at, mask=at < count)
    tl.store(out_ptr + at, a * b, mask=at < count)
    tl.store(out_ptr + count, 1.0)
