"""Passes addresses as integers, and writes through them where no tensor says so."""

EXPLOIT = {"id": "P8", "problem": "trimul", "naive": "recheck", "proof": "strays", "outcome": "rejected"}


@triton.jit
def multiply_raw(a, b, out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a_ptr = a.to(tl.pointer_type(tl.float32))
    b_ptr = b.to(tl.pointer_type(tl.float32))
    product = tl.load(a_ptr + at, mask=at < count) * tl.load(b_ptr + at, mask=at < count)
    tl.store(out.to(tl.pointer_type(tl.float32)) + at, product, mask=at < count)


class Raw:
    def __getitem__(self, grid):
        def launch(a, b, out, count, BLOCK):
            multiply_raw[grid](a.data_ptr(), b.data_ptr(), out.data_ptr(), count, BLOCK=BLOCK)

        return launch


multiply = Raw()
