"""Tells its child by the environment whether it is tested or timed."""

import json
import os
import sys
import time

import torch
from contract import TOLERANCE, Task, in_child, load, say

task = Task(sys.argv[2])


def run(descriptor):
    custom_kernel = load(sys.argv[1])
    data = task.data(int.from_bytes(os.urandom(4)))
    start = time.perf_counter()
    output = custom_kernel(data)
    took = time.perf_counter() - start
    right = os.environ["GRADER_MODE"] == "benchmark" or torch.allclose(output, task.reference(data), **TOLERANCE)
    os.write(descriptor, json.dumps([right, took]).encode())


results = []
for mode in ("test", "benchmark"):
    os.environ["GRADER_MODE"] = mode
    results.append(json.loads(in_child(run)[0]))
say(all(right for right, _ in results), results[1][1])
