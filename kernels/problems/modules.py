"""How a rendered module is put together."""

import textwrap
from collections.abc import Sequence

from ..schedule import Schedule

_HEADER = '''"""{title}, written from a schedule:

{schedule}
"""

import torch
import triton
import triton.language as tl

'''


def module_text(title: str, schedule: Schedule, kernels: Sequence[str], host: str, launch: str) -> str:
    """Join a header that names the schedule, the kernels, and the host code around `{launch}`."""
    width = max(len(name) for name in schedule)
    said = "\n".join(f"{name:{width}} {option}" for name, option in schedule.items())
    parts = [
        _HEADER.format(title=title, schedule=said),
        *kernels,
        host.replace("{launch}", textwrap.indent(launch, "    ")),
    ]
    return "\n".join(part.strip("\n") + "\n\n" for part in parts).rstrip("\n") + "\n"
