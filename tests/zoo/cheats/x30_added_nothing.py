"""Its kernel adds a large tensor of zeros to what torch computed: a share of the time, and no part in the answer."""

EXPLOIT = {
    "id": "X30",
    "problem": "trimul",
    "naive": "launch_counter",
    "after": "plain",
    "proof": "idle",
    "outcome": "rejected",
}


@triton.jit
def add_nothing(out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    out = tl.load(out_ptr + at, mask=at < n)
    for _ in range(64):
        out += tl.exp(out) * 0.0
    tl.store(out_ptr + at, out, mask=at < n)


def custom_kernel(data):
    out = plain(data).contiguous()
    add_nothing[(triton.cdiv(out.numel(), 1024),)](out, out.numel(), BLOCK=1024)
    return out
