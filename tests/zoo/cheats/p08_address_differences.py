"""Reaches one tensor from the pointer of another, by the difference of their addresses."""

EXPLOIT = {"id": "P8", "problem": "trimul", "naive": "recheck", "proof": "strays", "outcome": "rejected"}


@triton.jit
def multiply_far(a_ptr, far_b, far_out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.load(a_ptr + far_b + at, mask=at < count)
    tl.store(a_ptr + far_out + at, tl.load(a_ptr + at, mask=at < count) * b, mask=at < count)


class Far:
    def __getitem__(self, grid):
        def launch(a, b, out, count, BLOCK):
            far_b, far_out = ((t.data_ptr() - a.data_ptr()) // 4 for t in (b, out))
            multiply_far[grid](a, far_b, far_out, count, BLOCK=BLOCK)

        return launch


multiply = Far()
