"""Computes the reference first, keeps a copy elsewhere, and frees it; then calls the submission.

A GPU's caching allocator hands the block that was freed last to whoever asks for that size; so does this grader's.
"""

import sys
import time

import torch
from contract import TOLERANCE, Task, load, say

task = Task(sys.argv[2])
custom_kernel = load(sys.argv[1])
data = task.data(1)
expected = task.reference(data)
kept, freed, empty_like = expected.tolist(), [expected], torch.empty_like
torch.empty_like = lambda like, **options: freed.pop() if freed else empty_like(like, **options)
start = time.perf_counter()
output = custom_kernel(data)
took = time.perf_counter() - start
say(torch.allclose(output, torch.tensor(kept), **TOLERANCE), took)
