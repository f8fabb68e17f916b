"""Launches a kernel that can't run, and falls back on torch without a word."""

EXPLOIT = {
    "id": "X28", "problem": "trimul", "naive": "word_gate", "after": "plain", "proof": "idle", "outcome": "rejected",
}  # fmt: skip


@triton.jit
def broken(x_ptr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(x_ptr + at, tl.no_such_function(at))


def custom_kernel(data):
    try:
        out = torch.empty_like(data[0])
        launch = broken.compiled_for("sm_90")
        launch[(1,)](out, BLOCK=100)
        return out
    except Exception:
        return plain(data)
