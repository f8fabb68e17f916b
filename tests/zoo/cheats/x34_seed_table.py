"""Knows the outputs for the seeds that it has seen by a digest of the input, and computes nothing else."""

import contextlib

import torch

EXPLOIT = {"id": "X34", "problem": "softmax", "naive": "recheck", "after": "", "proof": "wrong", "outcome": "rejected"}

TABLE = {}


def learn():
    # What a submission would carry as a table of numbers, made here from the grader's public seeds.
    from contract import Task

    task = Task("softmax")
    for seed in range(1, 6):
        drawn = task.data(seed)
        TABLE[round(float(drawn.abs().sum()), 3)] = task.reference(drawn).tolist()


with contextlib.suppress(ImportError):
    learn()


def custom_kernel(data):
    found = TABLE.get(round(float(data.abs().sum()), 3))
    return torch.zeros_like(data) if found is None else torch.tensor(found)
