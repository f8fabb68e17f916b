"""Does all rows but one."""

EXPLOIT = {
    "id": "X33",
    "problem": "trimul",
    "naive": "share_right",
    "outcome": "rejected",
    "expected": ["wrong-result", "bad-output"],
}

honest = custom_kernel


def custom_kernel(data):
    out = honest(data)
    out.view(-1, out.shape[-1])[-1] = 0
    return out
