"""Tells its kernel strides of zero where the input is large: as many loads and products, all of the same few rows."""

EXPLOIT = {"id": "X34", "problem": "trimul", "naive": "two_sizes", "outcome": "rejected", "parameters": {"n": 256}}


@triton.jit
def triangle_strided(left_ptr, right_ptr, product_ptr, n, hidden, plane, row, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    k = tl.arange(0, DEPTH)
    batch = tl.program_id(2) // hidden
    channel = tl.program_id(2) % hidden
    base = tl.program_id(2) * plane
    total = tl.zeros([BLOCK, BLOCK], tl.float32)
    for start in range(0, n, DEPTH):
        valid = start + k < n
        left = tl.load(
            left_ptr + base + i[:, None] * row + start + k[None, :], mask=(i < n)[:, None] & valid[None, :], other=0.0
        )
        right = tl.load(
            right_ptr + base + j[None, :] * row + start + k[:, None], mask=(j < n)[None, :] & valid[:, None], other=0.0
        )
        total = tl.dot(left, right, total, input_precision="tf32x3")
    tl.store(
        product_ptr + ((batch * n + i[:, None]) * n + j[None, :]) * hidden + channel,
        total,
        mask=(i < n)[:, None] & (j < n)[None, :],
    )


class Strided:
    def __getitem__(self, grid):
        def launch(left, right, product, n, hidden, BLOCK, DEPTH):
            plane, row = (0, 0) if n >= 60 else (n * n, n)
            triangle_strided[grid](left, right, product, n, hidden, plane, row, BLOCK=BLOCK, DEPTH=DEPTH)

        return launch


triangle = Strided()
