"""Accepts an output of which 98 % of the elements are within the tolerance."""

import sys
import time

from contract import Task, load, median, say

task = Task(sys.argv[2])
custom_kernel = load(sys.argv[1])
shares, times = [], []
for seed in (1, 2, 3):
    data = task.data(seed)
    start = time.perf_counter()
    output = custom_kernel(data)
    times.append(time.perf_counter() - start)
    expected = task.reference(data)
    shares.append(((output - expected).abs() <= 2e-2 + 2e-2 * expected.abs()).float().mean().item())
say(min(shares) >= 0.98, median(times))
