"""A child process checks, times and reduces the samples, and sends its statistics; the parent believes them."""

import json
import os
import statistics
import sys
import time

import torch
from contract import TOLERANCE, Task, in_child, load, say

task = Task(sys.argv[2])


def child(descriptor):
    os.environ["RESULT_FD"] = str(descriptor)
    custom_kernel = load(sys.argv[1])
    times, right = [], True
    for seed in range(1, 6):
        data = task.data(seed)
        start = time.perf_counter()
        output = custom_kernel(data)
        times.append(time.perf_counter() - start)
        right &= torch.allclose(output, task.reference(data), **TOLERANCE)
    os.write(descriptor, json.dumps({"right": right, "mean": statistics.fmean(times)}).encode())


answer = json.loads(in_child(child)[0] or b'{"right": false, "mean": null}')
say(answer["right"], answer["mean"])
