"""Walks up the stack to the variable that holds the expected output."""

import sys

import torch

EXPLOIT = {"id": "X21", "problem": "softmax", "naive": "recheck", "after": "", "outcome": "rejected"}


def custom_kernel(data):
    frame = sys._getframe(1)
    while frame is not None:
        for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
            if isinstance(value, torch.Tensor) and value is not data and value.shape == data.shape:
                return value
        frame = frame.f_back
    return torch.zeros_like(data)
