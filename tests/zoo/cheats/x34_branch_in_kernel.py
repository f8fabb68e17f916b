"""The kernel itself leaves the sum out where it is long."""

EXPLOIT = {"id": "X34", "problem": "trimul", "naive": "two_sizes", "outcome": "rejected", "parameters": {"n": 256}}


@triton.jit
def triangle(left_ptr, right_ptr, product_ptr, n, hidden, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    k = tl.arange(0, DEPTH)
    batch = tl.program_id(2) // hidden
    channel = tl.program_id(2) % hidden
    base = tl.program_id(2) * n * n
    total = tl.zeros([BLOCK, BLOCK], tl.float32)
    last = n
    if n >= 60:
        last = DEPTH
    for start in range(0, last, DEPTH):
        valid = start + k < n
        left = tl.load(
            left_ptr + base + i[:, None] * n + start + k[None, :], mask=(i < n)[:, None] & valid[None, :], other=0.0
        )
        right = tl.load(
            right_ptr + base + j[None, :] * n + start + k[:, None], mask=(j < n)[None, :] & valid[:, None], other=0.0
        )
        total = tl.dot(left, right, total, input_precision="tf32x3")
    tl.store(
        product_ptr + ((batch * n + i[:, None]) * n + j[None, :]) * hidden + channel,
        total,
        mask=(i < n)[:, None] & (j < n)[None, :],
    )
