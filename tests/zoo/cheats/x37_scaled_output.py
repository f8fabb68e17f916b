"""Right, but for one per cent that every element is too large by."""

EXPLOIT = {
    "id": "X37", "problem": "trimul", "naive": "recheck", "proof": "scaled", "outcome": "rejected",
    "expected": ["precision", "bias", "wrong-result"],
}  # fmt: skip

honest = custom_kernel


def custom_kernel(data):
    return honest(data) * 1.01
