"""Keeps outputs by the address of the input."""

EXPLOIT = {"id": "X14", "problem": "softmax", "naive": "benchmark_once", "outcome": "rejected"}

honest = custom_kernel
kept = {}


def custom_kernel(data):
    key = data.data_ptr()
    if key not in kept:
        kept[key] = honest(data)
    return kept[key]
