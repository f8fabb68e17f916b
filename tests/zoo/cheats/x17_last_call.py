"""Returns the last output whenever the shape hasn't changed since."""

EXPLOIT = {"id": "X17", "problem": "softmax", "naive": "benchmark_once", "outcome": "rejected"}

honest = custom_kernel
last = torch.empty(0)


def custom_kernel(data):
    global last
    if last.shape != data.shape:
        last = honest(data)
    return last
