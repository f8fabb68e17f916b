"""TF32 products, the GPU's default and its fastest for fp32, under a contract for fp32."""

EXPLOIT = {
    "id": "X37", "problem": "trimul", "naive": "recheck", "proof": "imprecise", "outcome": "rejected",
    "precision": "fp32", "expected": ["precision", "bias"],
}  # fmt: skip


@triton.jit
def linear(x_ptr, w_ptr, y_ptr, rows, inner, outer, SIGMOID: tl.constexpr, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    row = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    depth = tl.arange(0, DEPTH)
    total = tl.zeros([BLOCK, BLOCK], tl.float32)
    for start in range(0, inner, DEPTH):
        valid = start + depth < inner
        x = tl.load(
            x_ptr + row[:, None] * inner + start + depth[None, :],
            mask=(row < rows)[:, None] & valid[None, :],
            other=0.0,
        )
        w = tl.load(
            w_ptr + column[None, :] * inner + start + depth[:, None],
            mask=(column < outer)[None, :] & valid[:, None],
            other=0.0,
        )
        total = tl.dot(x, w, total)
    if SIGMOID:
        total = tl.sigmoid(total)
    tl.store(
        y_ptr + row[:, None] * outer + column[None, :], total, mask=(row < rows)[:, None] & (column < outer)[None, :]
    )
