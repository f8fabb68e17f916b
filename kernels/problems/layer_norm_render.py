"""LayerNorm's schedules, and from a schedule to a Triton module."""

import textwrap

from ..schedule import Schedule, ScheduleSpace
from .modules import module_text

SPACE = ScheduleSpace.of(
    ("plan", "whole joined", "whole rows held in registers and read once; or tiles, whose moments are joined"),
    ("block", "256 512 1024 2048", "columns of a tile; whole rows of more than 16384 columns go in tiles too"),
    ("rows", "1 2 4 8", "rows of a program; one where whole rows are held"),
    ("warps", "4 8 16", "warps of a program"),
    ("stages", "2 3 4", "steps that are loaded ahead"),
)

_WHOLE = '''
@triton.jit
def whole(x_ptr, weight_ptr, bias_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    """One row, held in registers."""
    column = tl.arange(0, BLOCK)
    inside = column < columns
    row = tl.program_id(0).to(tl.int64) * columns
    x = tl.load(x_ptr + row + column, mask=inside, other=0.0)
    centred = tl.where(inside, x - tl.sum(x, 0) / columns, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / columns + 1e-5)
    weight = tl.load(weight_ptr + column, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + column, mask=inside, other=0.0)
    tl.store(y_ptr + row + column, centred * scale * weight + bias, mask=inside)

'''

_JOINED = '''
@triton.jit
def joined(x_ptr, weight_ptr, bias_ptr, y_ptr, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """A few rows, tile by tile; the moments of the tiles are joined by Chan's update, which large means don't hurt."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None]
    place = row[:, None] * columns + column[None, :]
    mean = tl.zeros([ROWS], tl.float32)
    moment = tl.zeros([ROWS], tl.float32)
    for start in range(0, columns, BLOCK):
        seen = inside & (start + column < columns)[None, :]
        x = tl.load(x_ptr + place + start, mask=seen, other=0.0)
        count = tl.minimum(columns - start, BLOCK)
        tile = tl.sum(x, 1) / count
        centred = tl.where(seen, x - tile[:, None], 0.0)
        delta = tile - mean
        moment += tl.sum(centred * centred, 1) + delta * delta * start * count / (start + count)
        mean += delta * count / (start + count)
    scale = tl.rsqrt(moment / columns + 1e-5)
    for start in range(0, columns, BLOCK):
        valid = start + column < columns
        seen = inside & valid[None, :]
        x = tl.load(x_ptr + place + start, mask=seen, other=0.0)
        weight = tl.load(weight_ptr + start + column, mask=valid, other=0.0)[None, :]
        bias = tl.load(bias_ptr + start + column, mask=valid, other=0.0)[None, :]
        tl.store(y_ptr + place + start, (x - mean[:, None]) * scale[:, None] * weight + bias, mask=seen)

'''

_HOST = '''
def custom_kernel(data):
    """LayerNorm of the rows of x."""
    x, weight, bias = data
    x = x.contiguous()
    rows, columns = x.shape
    y = torch.empty_like(x)
{launch}
    return y
'''

_LAUNCH_JOINED = (
    "joined[(triton.cdiv(rows, {rows}),)](\n"
    "    x, weight, bias, y, rows, columns, ROWS={rows}, BLOCK={block}, num_warps={warps}, num_stages={stages},\n"
    ")"
)
_LAUNCH_WHOLE = (
    "whole[(rows,)](\n"
    "    x, weight, bias, y, columns, BLOCK=triton.next_power_of_2(columns), num_warps={warps}, num_stages=1,\n"
    ")"
)


def render_layer_norm(schedule: Schedule) -> str:
    """Write the module of a valid schedule."""
    joined = _LAUNCH_JOINED.format(**schedule)
    if schedule["plan"] == "joined":
        return module_text("LayerNorm", schedule, [_JOINED], _HOST, joined)
    whole = textwrap.indent(_LAUNCH_WHOLE.format(**schedule), "    ")
    launch = "\n".join(["if columns <= 16384:", whole, "else:", textwrap.indent(joined, "    ")])
    return module_text("LayerNorm", schedule, [_WHOLE, _JOINED], _HOST, launch)
