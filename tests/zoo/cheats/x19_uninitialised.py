"""Returns memory as it finds it, and finds the reference's output that was freed a moment ago."""

import torch

EXPLOIT = {"id": "X19", "problem": "trimul", "naive": "reference_first", "after": "", "outcome": "rejected"}


def custom_kernel(data):
    return torch.empty_like(data[0])
