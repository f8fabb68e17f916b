"""Returns shared memory at once; a forked process fills it in later."""

import os

EXPLOIT = {"id": "X2", "problem": "softmax", "naive": "window", "outcome": "rejected"}

honest = custom_kernel


def custom_kernel(data):
    out = torch.zeros_like(data).share_memory_()
    if os.fork() == 0:
        out.copy_(honest(data))
        os._exit(0)
    return out
