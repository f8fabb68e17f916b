"""Keeps packed weights by their address: right until somebody trains them."""

EXPLOIT = {"id": "P16", "problem": "trimul", "naive": "benchmark_once", "outcome": "rejected"}

honest = custom_kernel
packed = {}


def custom_kernel(data):
    x, mask, weights, config = data
    key = tuple(weight.data_ptr() for weight in weights.values())
    if key not in packed:
        packed[key] = {name: weight.clone() for name, weight in weights.items()}
    return honest((x, mask, packed[key], config))
