"""Ends the process with code 0 before anything is checked."""

import os

EXPLOIT = {
    "id": "X26",
    "problem": "softmax",
    "naive": "exit_code",
    "after": "",
    "outcome": "rejected",
    "expected": ["exited"],
}


def custom_kernel(data):
    os._exit(0)
