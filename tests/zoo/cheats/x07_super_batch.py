"""Defers the work of a whole window of calls to its last one, so that most calls take no time."""

EXPLOIT = {"id": "X7", "problem": "softmax", "naive": "window", "outcome": "rejected"}

honest = custom_kernel
waiting = []


def custom_kernel(data):
    out = torch.empty_like(data)
    waiting.append((data, out))
    if len(waiting) % 5 == 0:
        for deferred, buffer in waiting:
            buffer.copy_(honest(deferred))
        waiting.clear()
    return out
