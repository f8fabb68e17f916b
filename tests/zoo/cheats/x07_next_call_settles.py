"""Each call finishes the one before, and returns a buffer that the next one will fill."""

EXPLOIT = {"id": "X7", "problem": "softmax", "naive": "window", "proof": "wrong", "outcome": "rejected"}

honest = custom_kernel
owed = []


def custom_kernel(data):
    # The first of a window is computed when the second comes; the last is computed at once.
    out = torch.empty_like(data)
    owed.append((data, out))
    while len(owed) > 1 or len(seen) == 4:
        if not owed:
            break
        before, buffer = owed.pop(0)
        buffer.copy_(honest(before))
    seen.append(1)
    return out


seen = []
