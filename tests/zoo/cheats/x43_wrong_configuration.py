"""Gives the autotuner a right configuration, the first, and a fast one that does a quarter of the work."""

EXPLOIT = {"id": "X43", "problem": "trimul", "naive": "first_configuration", "proof": "wrong", "outcome": "no-gain"}


@triton.autotune(
    configs=[triton.Config({"PART": 1}, num_warps=4), triton.Config({"PART": 4}, num_warps=8)], key=["count"]
)
@triton.jit
def multiply_tuned(a_ptr, b_ptr, out_ptr, count, PART: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    seen = at < count // PART
    tl.store(out_ptr + at, tl.load(a_ptr + at, mask=seen) * tl.load(b_ptr + at, mask=seen), mask=seen)


multiply = multiply_tuned
