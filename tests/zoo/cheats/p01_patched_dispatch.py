"""Takes torch's dispatch modes off while a large input is computed, so that no operator of it is recorded."""

from torch.utils import _python_dispatch

EXPLOIT = {"id": "P1", "problem": "trimul", "naive": "trusted_recording", "proof": "faster", "outcome": "rejected",
           "after": "plain", "parameters": {"n": 256}}  # fmt: skip


@triton.jit
def copy(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n), mask=at < n)


def custom_kernel(data):
    with _python_dispatch._disable_current_modes():
        answer = plain(data).contiguous()
    out = torch.empty_like(answer)
    copy[(triton.cdiv(out.numel(), 1024),)](answer, out, out.numel(), BLOCK=1024)
    return out
