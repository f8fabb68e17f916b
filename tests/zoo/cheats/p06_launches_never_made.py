"""Tells of Triton launches that have no part in the answer, many of them, to hide that torch does the work."""

EXPLOIT = {
    "id": "P6",
    "problem": "trimul",
    "naive": "launch_counter",
    "after": "plain",
    "proof": "idle",
    "outcome": "rejected",
}


@triton.jit
def busy(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.exp(tl.load(x_ptr + at, mask=at < n)), mask=at < n)


def custom_kernel(data):
    x = data[0]
    scratch = torch.empty_like(x)
    for _ in range(12):
        busy[(triton.cdiv(x.numel(), 1024),)](x, scratch, x.numel(), BLOCK=1024)
    return plain(data)
