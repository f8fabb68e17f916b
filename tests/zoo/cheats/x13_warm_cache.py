"""Reads the inputs once more at the end of a call, so that a repeat on the same tensors finds them in L2."""

EXPLOIT = {"id": "X13", "problem": "trimul", "naive": "gpu_events", "needs": "gpu", "outcome": "no-gain"}

honest = custom_kernel


def custom_kernel(data):
    out = honest(data)
    torch.cuda._touched = data[0].sum()
    return out
