"""Returns another type than the contract's: fp16, half of the bytes to write."""

EXPLOIT = {"id": "X39", "problem": "softmax", "naive": "recheck", "outcome": "rejected", "expected": ["bad-output"]}

honest = custom_kernel


def custom_kernel(data):
    return honest(data).half()
