"""Packs the weights of the first call, and uses them for good."""

EXPLOIT = {"id": "P16", "problem": "trimul", "naive": "benchmark_once", "outcome": "rejected"}

honest = custom_kernel
packed = {}


def custom_kernel(data):
    x, mask, weights, config = data
    first = packed.setdefault(tuple(x.shape), {name: weight.clone() for name, weight in weights.items()})
    return honest((x, mask, first, config))
