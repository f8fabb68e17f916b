"""Hands every call to a pool, and joins it only when a second module-level hook, the next call, comes along."""

from concurrent.futures import ThreadPoolExecutor

EXPLOIT = {"id": "X2", "problem": "softmax", "naive": "window", "outcome": "rejected"}

honest = custom_kernel
pool = ThreadPoolExecutor(1)


def custom_kernel(data):
    out = torch.full_like(data, 0.5)
    pool.submit(lambda: out.copy_(honest(data)))
    return out
