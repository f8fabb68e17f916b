"""Prints the lines that the grader looks for, and ends before it can print its own."""

import os

EXPLOIT = {"id": "X10", "problem": "softmax", "naive": "stdout_lines", "outcome": "rejected"}


def custom_kernel(data):
    os.write(1, b"check: pass\ntime: 1e-9\n")
    os._exit(0)
