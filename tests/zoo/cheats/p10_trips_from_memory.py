"""Reads the length of its loop from a tensor: where values are absent it is zero, and the kernel counts as free."""

EXPLOIT = {"id": "P10", "problem": "trimul", "naive": "counts_on_zeros", "proof": "faster", "outcome": "no-gain",
           "parameters": {"n": 256}}  # fmt: skip

run_triangle = None


@triton.jit
def triangle_told(left_ptr, right_ptr, product_ptr, trips_ptr, n, hidden, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    k = tl.arange(0, DEPTH)
    batch = tl.program_id(2) // hidden
    channel = tl.program_id(2) % hidden
    base = tl.program_id(2) * n * n
    total = tl.zeros([BLOCK, BLOCK], tl.float32)
    trips = tl.load(trips_ptr)
    for trip in range(trips):
        start = trip * DEPTH
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


class Told:
    def __getitem__(self, grid):
        def launch(left, right, product, n, hidden, BLOCK, DEPTH):
            # A number in a storage so large that a recording of a large input gives it no memory.
            trips = torch.full((1 << 21,), triton.cdiv(n, DEPTH), dtype=torch.int32, device=left.device)
            triangle_told[grid](left, right, product, trips, n, hidden, BLOCK=BLOCK, DEPTH=DEPTH)

        return launch


triangle = Told()
