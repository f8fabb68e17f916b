"""Tests in one process and times in another, on the same seeds and in the same folder."""

import json
import os
import sys
import time

import torch
from contract import TOLERANCE, Task, in_child, load, median, say

task = Task(sys.argv[2])


def test(descriptor):
    custom_kernel = load(sys.argv[1])
    right = all(
        torch.allclose(custom_kernel(data), task.reference(data), **TOLERANCE) for data in map(task.data, (1, 2, 3))
    )
    os.write(descriptor, json.dumps(right).encode())


def benchmark(descriptor):
    custom_kernel = load(sys.argv[1])
    times = []
    for seed in (1, 2, 3):
        data = task.data(seed)
        start = time.perf_counter()
        custom_kernel(data)
        times.append(time.perf_counter() - start)
    os.write(descriptor, json.dumps(median(times)).encode())


say(json.loads(in_child(test)[0]), json.loads(in_child(benchmark)[0]))
