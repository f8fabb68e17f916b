"""Skips a tile whose values are zero: where values are absent, that is all of them."""

EXPLOIT = {"id": "P10", "problem": "trimul", "naive": "counts_on_zeros", "proof": "faster", "outcome": "no-gain",
           "parameters": {"n": 256}}  # fmt: skip


@triton.jit
def triangle(left_ptr, right_ptr, product_ptr, n, hidden, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    k = tl.arange(0, DEPTH)
    batch = tl.program_id(2) // hidden
    channel = tl.program_id(2) % hidden
    base = tl.program_id(2) * n * n
    total = tl.zeros([BLOCK, BLOCK], tl.float32)
    some = tl.load(left_ptr + base + i, mask=i < n * n, other=0.0)
    if tl.sum(tl.abs(some), 0) != 0.0:
        for start in range(0, n, DEPTH):
            valid = start + k < n
            left = tl.load(
                left_ptr + base + i[:, None] * n + start + k[None, :], mask=(i < n)[:, None] & valid[None, :], other=0.0
            )
            right = tl.load(
                right_ptr + base + j[None, :] * n + start + k[:, None],
                mask=(j < n)[None, :] & valid[:, None],
                other=0.0,
            )
            total = tl.dot(left, right, total, input_precision="tf32x3")
    tl.store(
        product_ptr + ((batch * n + i[:, None]) * n + j[None, :]) * hidden + channel,
        total,
        mask=(i < n)[:, None] & (j < n)[None, :],
    )
