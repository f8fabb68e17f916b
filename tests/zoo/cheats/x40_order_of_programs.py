"""The first program clears what the others add to: right as long as it runs first."""

EXPLOIT = {"id": "X40", "problem": "trimul", "naive": "recheck", "proof": "disordered", "outcome": "rejected"}


@triton.jit
def clear_and_add(a_ptr, b_ptr, out_ptr, count, BLOCK: tl.constexpr):
    block = tl.program_id(0)
    at = block * BLOCK + tl.arange(0, BLOCK)
    if block == 0:
        for start in range(0, count, BLOCK):
            clear = start + tl.arange(0, BLOCK)
            tl.store(out_ptr + clear, tl.zeros([BLOCK], tl.float32), mask=clear < count)
    a = tl.load(a_ptr + at, mask=at < count)
    product = a * tl.load(b_ptr + at, mask=at < count)
    tl.store(out_ptr + at, tl.load(out_ptr + at, mask=at < count) + product, mask=at < count)


class Blocks:
    def __getitem__(self, grid):
        def launch(a, b, out, count, BLOCK):
            clear_and_add[(triton.cdiv(count, 256),)](a, b, out, count, BLOCK=256)

        return launch


multiply = Blocks()
