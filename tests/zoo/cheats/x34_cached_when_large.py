"""Keeps the output of the first large call for those after it."""

EXPLOIT = {"id": "X34", "problem": "trimul", "naive": "two_sizes", "outcome": "rejected", "parameters": {"n": 256}}

honest = custom_kernel
kept = {}


def custom_kernel(data):
    n = data[0].shape[1]
    if n < 60:
        return honest(data)
    if n not in kept:
        kept[n] = honest(data)
    return kept[n]
