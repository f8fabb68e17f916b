"""Leaves the last row of every output to the next call, which comes after the check of all but the last."""

EXPLOIT = {"id": "P15", "problem": "trimul", "naive": "share_right", "outcome": "rejected"}

honest = custom_kernel
owed = []


def custom_kernel(data):
    while owed:
        buffer, row = owed.pop()
        buffer.view(-1, buffer.shape[-1])[-1].copy_(row)
    out = honest(data)
    flat = out.view(-1, out.shape[-1])
    owed.append((out, flat[-1].clone()))
    flat[-1].zero_()
    return out
