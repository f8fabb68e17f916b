"""Takes a LayerNorm's bias for the weight's twin after looking at one element."""

EXPLOIT = {"id": "X35", "problem": "trimul", "naive": "small_outputs", "outcome": "rejected"}

honest = custom_kernel


def custom_kernel(data):
    x, mask, weights, config = data
    if float(weights["norm.bias"][0]) < 10:
        weights = {**weights, "norm.bias": torch.zeros_like(weights["norm.bias"])}
    return honest((x, mask, weights, config))
