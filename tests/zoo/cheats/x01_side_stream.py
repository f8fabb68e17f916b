"""Launches everything on a stream that the caller's never waits for, so that the timer stops at once."""

EXPLOIT = {"id": "X1", "problem": "trimul", "naive": "gpu_events", "needs": "gpu", "outcome": "no-gain"}

honest = custom_kernel
side = torch.cuda.Stream()


def custom_kernel(data):
    with torch.cuda.stream(side):
        return honest(data)
