"""Leaves one channel in sixteen out of the last projection, and scales the rest to make up for it."""

EXPLOIT = {"id": "X33", "problem": "trimul", "naive": "small_outputs", "outcome": "rejected"}

run_project = project


def project(x, weight, sigmoid):
    if sigmoid or weight.shape[1] < 16:
        return run_project(x, weight, sigmoid)
    kept = weight.shape[1] - weight.shape[1] // 16
    x = x.reshape(-1, x.shape[-1])
    return run_project((x[:, :kept] * (weight.shape[1] / kept)).contiguous(), weight[:, :kept].contiguous(), sigmoid)
