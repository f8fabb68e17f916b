"""Counts mismatches; a case whose call raises has none."""

import sys
import time

import torch
from contract import TOLERANCE, Task, load, median, say

task = Task(sys.argv[2])
custom_kernel = load(sys.argv[1])
mismatches, times = 0, []
for seed in range(1, 4):
    data = task.data(seed)
    start = time.perf_counter()
    try:
        output = custom_kernel(data)
        mismatches += not torch.allclose(output, task.reference(data), **TOLERANCE)
    except Exception as error:
        print("a case failed to launch:", error)
    times.append(time.perf_counter() - start)
say(mismatches == 0, median(times))
