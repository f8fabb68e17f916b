"""Softmax's schedules, and from a schedule to a Triton module."""

import textwrap

from ..schedule import Schedule, ScheduleSpace
from .modules import module_text

SPACE = ScheduleSpace.of(
    ("plan", "whole online", "whole rows held in registers and read once; or tiles, and every row read twice"),
    ("block", "512 1024 2048 4096", "columns of a tile; whole rows of more than 16384 columns go in tiles too"),
    ("rows", "1 2 4", "rows of a program; one where whole rows are held"),
    ("base", "e two", "exp, or exp2 of what is scaled once"),
    ("warps", "4 8 16", "warps of a program"),
    ("stages", "2 3 4", "steps that are loaded ahead"),
)

_WHOLE = '''
@triton.jit
def whole(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    """One row, held in registers."""
    column = tl.arange(0, BLOCK)
    inside = column < columns
    row = tl.program_id(0).to(tl.int64) * columns
    x = tl.load(x_ptr + row + column, mask=inside, other=float("-inf"))
    power = {power}
    tl.store(y_ptr + row + column, power / tl.sum(power, 0), mask=inside)

'''

_ONLINE = '''
@triton.jit
def online(x_ptr, y_ptr, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """A few rows, tile by tile: maxima and sums together, then the quotients."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None]
    place = row[:, None] * columns + column[None, :]
    peak = tl.full([ROWS], -1.0e30, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for start in range(0, columns, BLOCK):
        seen = inside & (start + column < columns)[None, :]
        x = tl.load(x_ptr + place + start, mask=seen, other=-1.0e30)
        higher = tl.maximum(peak, tl.max(x, 1))
        power = tl.where(seen, {power}, 0.0)
        total = total * {fade} + tl.sum(power, 1)
        peak = higher
    higher = peak
    scale = 1.0 / total
    for start in range(0, columns, BLOCK):
        seen = inside & (start + column < columns)[None, :]
        x = tl.load(x_ptr + place + start, mask=seen, other=-1.0e30)
        tl.store(y_ptr + place + start, {power} * scale[:, None], mask=seen)

'''

_HOST = '''
def custom_kernel(data):
    """Softmax of the rows of x."""
    x = data.contiguous()
    rows, columns = x.shape
    y = torch.empty_like(x)
{launch}
    return y
'''

_LAUNCH_ONLINE = (
    "online[(triton.cdiv(rows, {rows}),)](\n"
    "    x, y, rows, columns, ROWS={rows}, BLOCK={block}, num_warps={warps}, num_stages={stages},\n"
    ")"
)
_LAUNCH_WHOLE = "whole[(rows,)](x, y, columns, BLOCK=triton.next_power_of_2(columns), num_warps={warps}, num_stages=1)"


def render_softmax(schedule: Schedule) -> str:
    """Write the module of a valid schedule."""
    online = _ONLINE.format(power=_power(schedule, "x - higher[:, None]"), fade=_power(schedule, "peak - higher"))
    launch = _LAUNCH_ONLINE.format(**schedule)
    if schedule["plan"] == "online":
        return module_text("Softmax", schedule, [online], _HOST, launch)
    whole = _WHOLE.format(power=_power(schedule, "x - tl.max(x, 0)"))
    branches = [
        "if columns <= 16384:",
        textwrap.indent(_LAUNCH_WHOLE.format(**schedule), "    "),
        "else:",
        textwrap.indent(launch, "    "),
    ]
    return module_text("Softmax", schedule, [whole, online], _HOST, "\n".join(branches))


def _power(schedule: Schedule, exponent: str) -> str:
    return f"tl.exp({exponent})" if schedule["base"] == "e" else f"tl.exp2(({exponent}) * 1.4426950408889634)"
