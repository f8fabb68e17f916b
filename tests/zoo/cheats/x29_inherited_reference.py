"""Subclasses the reference and adds nothing to it."""

import torch

EXPLOIT = {
    "id": "X29",
    "problem": "trimul",
    "naive": "recheck",
    "after": "plain",
    "proof": "idle",
    "outcome": "rejected",
}


class Model(torch.nn.Module):
    def forward(self, data):
        return plain(data)


class ModelNew(Model):
    pass


custom_kernel = ModelNew()
