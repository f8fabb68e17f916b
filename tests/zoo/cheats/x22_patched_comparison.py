"""Replaces everything that a checker compares with."""

import numpy
import torch

EXPLOIT = {"id": "X22", "problem": "softmax", "naive": "recheck", "after": "", "outcome": "rejected"}

for owner in (torch, numpy):
    for name in ("allclose", "equal", "isclose", "array_equal"):
        if hasattr(owner, name):
            setattr(owner, name, lambda *args, **kwargs: True)
torch.testing.assert_close = numpy.testing.assert_allclose = lambda *args, **kwargs: None


def custom_kernel(data):
    return torch.zeros_like(data)
