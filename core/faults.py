"""Failpoints: named places where a test makes the process die, so that recovery is exercised and not hoped for.

`PAWL_FAULT=name:3` kills the process with SIGKILL the third time it passes `point("name")`; `PAWL_FAULT=*:17` at
the seventeenth point of any name. Without the variable a point costs one dictionary look-up.
"""

import os
import signal

_passed: dict[str, int] = {}


def point(name: str) -> None:
    """Mark a place between two effects."""
    plan = os.environ.get("PAWL_FAULT")
    if not plan:
        return
    target, _, count = plan.rpartition(":")
    for key in (name, "*"):
        _passed[key] = _passed.get(key, 0) + 1
    if target in (name, "*") and _passed[target] == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
