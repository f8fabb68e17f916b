"""Splits the sum over k between programs that add to one tile without atomics: updates are lost where they overlap."""

EXPLOIT = {"id": "X40", "problem": "trimul", "naive": "recheck", "proof": "disordered", "outcome": "rejected"}


@triton.jit
def partial(left_ptr, right_ptr, product_ptr, n, hidden, span, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    tiles = tl.cdiv(n, BLOCK)
    i = (tl.program_id(0) // tiles) * BLOCK + tl.arange(0, BLOCK)
    j = (tl.program_id(0) % tiles) * BLOCK + tl.arange(0, BLOCK)
    k = tl.program_id(1) * span + tl.arange(0, DEPTH)
    mine = (k < n) & (tl.arange(0, DEPTH) < span)
    batch = tl.program_id(2) // hidden
    channel = tl.program_id(2) % hidden
    base = tl.program_id(2) * n * n
    left = tl.load(left_ptr + base + i[:, None] * n + k[None, :], mask=(i < n)[:, None] & mine[None, :], other=0.0)
    right = tl.load(right_ptr + base + j[None, :] * n + k[:, None], mask=(j < n)[None, :] & mine[:, None], other=0.0)
    at = product_ptr + ((batch * n + i[:, None]) * n + j[None, :]) * hidden + channel
    inside = (i < n)[:, None] & (j < n)[None, :]
    before = tl.load(at, mask=inside, other=0.0)
    tl.store(at, before + tl.dot(left, right, input_precision="tf32x3"), mask=inside)


class Split:
    def __getitem__(self, grid):
        def launch(left, right, product, n, hidden, BLOCK, DEPTH):
            product.zero_()
            span = triton.cdiv(n, 4)
            depth = max(16, triton.next_power_of_2(span))
            parts = (grid[0] * grid[1], 4, grid[2])
            partial[parts](left, right, product, n, hidden, span, BLOCK=BLOCK, DEPTH=depth)

        return launch


triangle = Split()
