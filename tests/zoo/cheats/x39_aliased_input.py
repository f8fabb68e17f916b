"""Writes the output over the input and returns that."""

EXPLOIT = {"id": "X39", "problem": "softmax", "naive": "recheck", "outcome": "rejected"}

honest = custom_kernel


def custom_kernel(data):
    data.copy_(honest(data))
    return data
