"""On a GPU: checks once, then times repeats by the host's clock around a call and `torch.cuda.synchronize`."""

import sys
import time

import torch
from contract import TOLERANCE, Task, clone, load, median, say, to_device

task = Task(sys.argv[2], 64)
custom_kernel = load(sys.argv[1])
data = to_device(task.data(1))
right = torch.allclose(custom_kernel(clone(data)).cpu(), task.reference(task.data(1)), **TOLERANCE)
times = []
for _ in range(20):
    start = time.perf_counter()
    custom_kernel(data)
    torch.cuda.synchronize()
    times.append(time.perf_counter() - start)
say(right, median(times))
