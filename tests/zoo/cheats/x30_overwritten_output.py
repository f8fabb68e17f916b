"""Its kernel does write the output, all of it and for long; then torch writes over it."""

EXPLOIT = {
    "id": "X30",
    "problem": "trimul",
    "naive": "launch_counter",
    "after": "plain",
    "proof": "idle",
    "outcome": "rejected",
}


@triton.jit
def busy(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    for _ in range(8):
        x = x * 0.5 + tl.exp(-x * x)
    tl.store(out_ptr + at, x, mask=at < n)


def custom_kernel(data):
    out = torch.empty_like(data[0])
    busy[(triton.cdiv(out.numel(), 1024),)](data[0], out, out.numel(), BLOCK=1024)
    out.copy_(plain(data))
    return out
