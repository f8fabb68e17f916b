"""Its kernels stand in a branch for sizes that never come."""

EXPLOIT = {
    "id": "X31", "problem": "trimul", "naive": "word_gate", "after": "plain", "proof": "idle", "outcome": "rejected",
    "expected": ["no-triton-kernel"],
}  # fmt: skip


@triton.jit
def fast(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n), mask=at < n)


def custom_kernel(data):
    x = data[0]
    if x.shape[1] % 4096 == 4095 and x.dtype == torch.float16:
        out = torch.empty_like(x)
        fast[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
        return out
    return plain(data)
