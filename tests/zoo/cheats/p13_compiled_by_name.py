"""Puts plain torch under torch.compile, to have it priced as one kernel, and a Triton kernel that copies beside it."""

EXPLOIT = {
    "id": "P13",
    "problem": "trimul",
    "naive": "launch_counter",
    "after": "plain",
    "proof": "idle",
    "outcome": "rejected",
}

compiled = torch.compile(plain, backend="eager")


@triton.jit
def touch(x_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + at, tl.load(x_ptr + at, mask=at < n), mask=at < n)


def custom_kernel(data):
    out = compiled(data).contiguous()
    touch[(triton.cdiv(out.numel(), 1024),)](out, out.numel(), BLOCK=1024)
    return out
