"""Keeps the first call's activations in a scratch buffer and computes from those: state that isn't weights."""

EXPLOIT = {"id": "P15", "problem": "trimul", "naive": "benchmark_once", "outcome": "rejected"}

honest = custom_kernel
kept = {}


def custom_kernel(data):
    x, mask, weights, config = data
    first = kept.setdefault(tuple(x.shape), x.clone())
    return honest((first, mask, weights, config))
