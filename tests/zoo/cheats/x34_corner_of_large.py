"""Computes a corner of a large input with the same kernels, and leaves the rest of the output as it was allocated."""

EXPLOIT = {"id": "X34", "problem": "trimul", "naive": "two_sizes", "outcome": "rejected", "parameters": {"n": 256}}

honest = custom_kernel


def custom_kernel(data):
    x, mask, weights, config = data
    if x.shape[1] < 60:
        return honest(data)
    out = torch.empty_like(x)
    out[:, :16, :16] = honest((x[:, :16, :16].contiguous(), mask[:, :16, :16].contiguous(), weights, config))
    return out
