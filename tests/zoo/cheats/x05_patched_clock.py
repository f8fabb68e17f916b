"""Puts a clock of its own in the place of every one that Python has."""

import itertools
import time

EXPLOIT = {"id": "X5", "problem": "softmax", "naive": "recheck", "proof": "faster", "outcome": "no-gain"}

ticks = itertools.count()
for name in ("time", "perf_counter", "monotonic", "process_time"):
    setattr(time, name, lambda: next(ticks) * 1e-9)
    setattr(time, name + "_ns", lambda: next(ticks))
