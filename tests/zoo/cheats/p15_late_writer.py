"""Returns one buffer from every call, so that an output that was kept changes with the next call."""

EXPLOIT = {"id": "P15", "problem": "softmax", "naive": "recheck", "proof": "rewritten", "outcome": "rejected"}

honest = custom_kernel
kept = {}


def custom_kernel(data):
    out = honest(data)
    buffer = kept.setdefault(tuple(out.shape), torch.empty_like(out))
    buffer.copy_(out)
    return buffer
