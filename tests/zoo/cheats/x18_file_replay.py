"""Leaves outputs in files where it is tested, and reads them where it is timed."""

import os

import numpy

EXPLOIT = {"id": "X18", "problem": "softmax", "naive": "two_processes", "proof": "faster", "outcome": "rejected"}

honest = custom_kernel


def custom_kernel(data):
    path = f"kept-{float(data.sum()):.6f}.npy"
    if os.path.exists(path):
        return torch.from_numpy(numpy.load(path))
    out = honest(data)
    numpy.save(path, out.numpy())
    return out
