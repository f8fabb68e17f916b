"""Returns zeros where the right output is small."""

import torch

EXPLOIT = {"id": "X32", "problem": "trimul", "naive": "small_outputs", "after": "", "outcome": "rejected"}


def custom_kernel(data):
    return torch.zeros_like(data[0])
