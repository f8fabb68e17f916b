"""Raises in every call: a harness that counts mismatches finds none."""

EXPLOIT = {
    "id": "X26", "problem": "softmax", "naive": "crash_tolerant", "after": "", "outcome": "rejected",
    "expected": ["crash"],
}  # fmt: skip


def custom_kernel(data):
    raise RuntimeError("out of resource: shared memory")
