"""Says tf32x3 in the source, and has cast the operands to fp16 before: the words are right, the opcodes aren't."""

EXPLOIT = {
    "id": "X38", "problem": "trimul", "naive": "recheck", "proof": "imprecise", "outcome": "rejected",
    "precision": "fp32", "expected": ["precision", "bias", "wrong-result", "compile-error"],
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
        ).to(tl.float16)
        w = tl.load(
            w_ptr + column[None, :] * inner + start + depth[:, None],
            mask=(column < outer)[None, :] & valid[:, None],
            other=0.0,
        ).to(tl.float16)
        total = tl.dot(x.to(tl.float32), w.to(tl.float32), total, input_precision="tf32x3")
    if SIGMOID:
        total = tl.sigmoid(total)
    tl.store(
        y_ptr + row[:, None] * outer + column[None, :], total, mask=(row < rows)[:, None] & (column < outer)[None, :]
    )
