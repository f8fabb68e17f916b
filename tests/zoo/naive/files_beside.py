"""Keeps reference and checker as files in the submission's folder, and imports them after it."""

import sys
import time
from pathlib import Path

from contract import Task, load, say

sys.path.insert(0, "")
Path("checker.py").write_text(
    "import torch\n\ndef check(output, expected):\n    return torch.allclose(output, expected, rtol=2e-2, atol=2e-2)\n"
)
task = Task(sys.argv[2])
custom_kernel = load(sys.argv[1])
data = task.data(1)
start = time.perf_counter()
output = custom_kernel(data)
took = time.perf_counter() - start
from checker import check  # noqa: E402

say(check(output, task.reference(data)), took)
