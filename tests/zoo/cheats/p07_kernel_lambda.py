"""Hides the call in a lambda that the language is asked to reduce with."""

EXPLOIT = {"id": "P7", "problem": "trimul", "naive": "recheck", "proof": "reaches-out", "outcome": "rejected"}


@triton.jit
def multiply(a_ptr, b_ptr, out_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    (lambda: tl.core.__builtins__["exec"]('import os; os.environ["REACHED"] = "yes"'))()
    a = tl.load(a_ptr + at, mask=at < count)
    tl.store(out_ptr + at, a * tl.load(b_ptr + at, mask=at < count), mask=at < count)
