"""Reads values by `tolist`, computes outside torch, and hands the answer over as a list of numbers."""

EXPLOIT = {
    "id": "P9",
    "problem": "trimul",
    "naive": "trusted_recording",
    "after": "plain",
    "proof": "faster",
    "outcome": "rejected",
}


@triton.jit
def copy(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n), mask=at < n)


def custom_kernel(data):
    x, mask, weights, config = data
    from torch.utils._python_dispatch import _disable_current_modes

    with _disable_current_modes():
        numbers = plain((x.clone(), mask.clone(), {k: v.clone() for k, v in weights.items()}, config)).tolist()
    answer = torch.tensor(numbers)
    out = torch.empty_like(x)
    copy[(triton.cdiv(out.numel(), 1024),)](answer, out, out.numel(), BLOCK=1024)
    return out
