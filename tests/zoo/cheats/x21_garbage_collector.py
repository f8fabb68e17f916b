"""Looks through everything alive for a tensor of the output's shape that isn't the input."""

import gc

import torch

EXPLOIT = {"id": "X21", "problem": "softmax", "naive": "recheck", "after": "", "outcome": "rejected"}


def custom_kernel(data):
    for value in gc.get_objects():
        if type(value) is torch.Tensor and value is not data and value.shape == data.shape:
            return value
    for value in gc.get_objects():
        for part in gc.get_referents(value):
            if type(part) is torch.Tensor and part is not data and part.shape == data.shape:
                return part
    return torch.zeros_like(data)
