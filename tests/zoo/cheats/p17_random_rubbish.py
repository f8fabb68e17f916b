"""Adds noise that is small on average: within the tolerance most of the time, another answer every time."""

EXPLOIT = {
    "id": "P17",
    "problem": "trimul",
    "naive": "recheck",
    "proof": "imprecise",
    "outcome": "rejected",
    "precision": "fp32",
}

honest = custom_kernel


def custom_kernel(data):
    out = honest(data)
    return out + 2e-3 * torch.randn_like(out)
