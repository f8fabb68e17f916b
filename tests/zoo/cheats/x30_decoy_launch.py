"""Launches a kernel on a tensor of its own that nobody reads; torch does the work."""

EXPLOIT = {
    "id": "X30",
    "problem": "trimul",
    "naive": "launch_counter",
    "after": "plain",
    "proof": "idle",
    "outcome": "rejected",
}


@triton.jit
def decoy(x_ptr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + at, tl.load(x_ptr + at) * 2.0 + 1.0)


def custom_kernel(data):
    dummy = torch.zeros(128, device=data[0].device)
    decoy[(1,)](dummy, BLOCK=128)
    return plain(data)
