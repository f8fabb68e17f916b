"""Writes its own statistics to every descriptor that might lead to the parent, and ends the process."""

import json
import os

EXPLOIT = {"id": "X6", "problem": "softmax", "naive": "child_stats", "outcome": "rejected"}


def custom_kernel(data):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, json.dumps({"right": True, "mean": 1e-6}).encode())
        except OSError:
            continue
    os._exit(0)
