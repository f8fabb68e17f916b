"""Ends the process with code 0 as it is imported."""

import sys

EXPLOIT = {
    "id": "X26",
    "problem": "softmax",
    "naive": "exit_code",
    "after": "",
    "outcome": "rejected",
    "expected": ["import-error"],
}


def custom_kernel(data):
    return None


sys.exit(0)
