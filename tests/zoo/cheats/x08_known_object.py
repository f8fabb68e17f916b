"""Computes for tensors that it meets for the first time, as checks' clones are, and keeps the output for the rest."""

EXPLOIT = {"id": "X8", "problem": "softmax", "naive": "benchmark_once", "outcome": "rejected"}

honest = custom_kernel
kept = {}


def custom_kernel(data):
    if id(data) not in kept:
        kept[id(data)] = (data, honest(data))
    return kept[id(data)][1]
