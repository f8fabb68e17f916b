"""Computes at the sizes of the tests; at the benchmark's it returns what it allocated."""

EXPLOIT = {"id": "X34", "problem": "trimul", "naive": "two_sizes", "outcome": "rejected", "parameters": {"n": 256}}

honest = custom_kernel


def custom_kernel(data):
    if data[0].shape[1] >= 60:
        return torch.empty_like(data[0])
    return honest(data)
