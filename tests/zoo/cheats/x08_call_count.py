"""Is honest for the calls that are checked, then returns the last output again."""

EXPLOIT = {"id": "X8", "problem": "softmax", "naive": "benchmark_once", "outcome": "rejected"}

honest = custom_kernel
calls = []


def custom_kernel(data):
    if len(calls) < 2:
        calls.append(honest(data))
    return calls[-1]
