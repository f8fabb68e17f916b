"""Is right, and leaves a weight that the next reader finds changed."""

EXPLOIT = {"id": "X24", "problem": "trimul", "naive": "benchmark_once", "outcome": "rejected"}

honest = custom_kernel


def custom_kernel(data):
    out = honest(data)
    data[2]["to_out.weight"].mul_(0.5)
    return out
