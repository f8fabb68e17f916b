"""Cross-entropy's schedules, and from a schedule to a Triton module."""

from ..schedule import Schedule, ScheduleSpace
from .modules import module_text

SPACE = ScheduleSpace.of(
    ("plan", "online split twice", "a row read once by one program; once by several, and joined; twice by one"),
    ("block", "512 1024 2048 4096 8192", "classes of a tile"),
    ("parts", "2 4 8", "programs that share a row, where it is split"),
    ("base", "e two", "exp, or exp2 of what is scaled once"),
    ("warps", "4 8 16", "warps of a program"),
    ("stages", "2 3 4", "steps that are loaded ahead"),
)

_ONLINE = '''
@triton.jit
def online(logits_ptr, targets_ptr, losses_ptr, classes, BLOCK: tl.constexpr):
    """The loss of one row, from one reading."""
    row = tl.program_id(0)
    logits_ptr += row.to(tl.int64) * classes
    column = tl.arange(0, BLOCK)
    peak = tl.full([BLOCK], -1.0e30, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, classes, BLOCK):
        seen = start + column < classes
        x = tl.load(logits_ptr + start + column, mask=seen, other=-1.0e30)
        higher = tl.maximum(peak, x)
        total = total * {fade} + tl.where(seen, {power}, 0.0)
        peak = higher
    highest = tl.max(peak, 0)
    total *= {join}
    chosen = tl.load(logits_ptr + tl.load(targets_ptr + row))
    tl.store(losses_ptr + row, tl.log(tl.sum(total, 0)) + (highest - chosen))

'''

_TWICE = '''
@triton.jit
def twice(logits_ptr, targets_ptr, losses_ptr, classes, BLOCK: tl.constexpr):
    """The loss of one row, from two readings."""
    row = tl.program_id(0)
    logits_ptr += row.to(tl.int64) * classes
    column = tl.arange(0, BLOCK)
    peak = tl.full([BLOCK], -1.0e30, tl.float32)
    for start in range(0, classes, BLOCK):
        x = tl.load(logits_ptr + start + column, mask=start + column < classes, other=-1.0e30)
        peak = tl.maximum(peak, x)
    higher = tl.max(peak, 0)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, classes, BLOCK):
        seen = start + column < classes
        x = tl.load(logits_ptr + start + column, mask=seen, other=-1.0e30)
        total += tl.where(seen, {power}, 0.0)
    chosen = tl.load(logits_ptr + tl.load(targets_ptr + row))
    tl.store(losses_ptr + row, tl.log(tl.sum(total, 0)) + (higher - chosen))

'''

_SPLIT = '''
@triton.jit
def part(logits_ptr, peaks_ptr, totals_ptr, classes, length, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    """Maximum and sum of one part of a row."""
    row = tl.program_id(0)
    logits_ptr += row.to(tl.int64) * classes
    first = tl.program_id(1) * length
    column = first + tl.arange(0, BLOCK)
    end = tl.minimum(first + length, classes)
    peak = tl.full([BLOCK], -1.0e30, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, length, BLOCK):
        seen = start + column < end
        x = tl.load(logits_ptr + start + column, mask=seen, other=-1.0e30)
        higher = tl.maximum(peak, x)
        total = total * {fade} + tl.where(seen, {power}, 0.0)
        peak = higher
    highest = tl.max(peak, 0)
    total *= {join}
    tl.store(peaks_ptr + row * PARTS + tl.program_id(1), highest)
    tl.store(totals_ptr + row * PARTS + tl.program_id(1), tl.sum(total, 0))


@triton.jit
def join(logits_ptr, targets_ptr, peaks_ptr, totals_ptr, losses_ptr, classes, PARTS: tl.constexpr):
    """The loss of one row, from its parts."""
    row = tl.program_id(0)
    place = row * PARTS + tl.arange(0, PARTS)
    peak = tl.load(peaks_ptr + place)
    highest = tl.max(peak, 0)
    total = tl.sum(tl.load(totals_ptr + place) * {join}, 0)
    chosen = tl.load(logits_ptr + row.to(tl.int64) * classes + tl.load(targets_ptr + row))
    tl.store(losses_ptr + row, tl.log(total) + (highest - chosen))

'''

_HOST = '''
def custom_kernel(data):
    """The loss of every row."""
    logits, targets = data
    logits = logits.contiguous()
    rows, classes = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
{launch}
    return losses
'''

_LAUNCH = (
    "{plan}[(rows,)](\n    logits, targets, losses, classes, BLOCK={block}, num_warps={warps}, num_stages={stages},\n)"
)
_LAUNCH_SPLIT = (
    "length = triton.cdiv(classes, {parts})\n"
    "peaks = torch.empty(rows, {parts}, dtype=torch.float32, device=logits.device)\n"
    "totals = torch.empty_like(peaks)\n"
    "part[(rows, {parts})](\n"
    "    logits, peaks, totals, classes, length, PARTS={parts}, BLOCK={block},\n"
    "    num_warps={warps}, num_stages={stages},\n"
    ")\n"
    "join[(rows,)](logits, targets, peaks, totals, losses, classes, PARTS={parts}, num_warps=1)"
)


def render_cross_entropy(schedule: Schedule) -> str:
    """Write the module of a valid schedule."""
    plan = schedule["plan"]
    kernel = {"online": _ONLINE, "twice": _TWICE, "split": _SPLIT}[plan].format(
        fade=_power(schedule, "peak - higher"),
        join=_power(schedule, "peak - highest"),
        power=_power(schedule, "x - higher"),
    )
    launch = (_LAUNCH_SPLIT if plan == "split" else _LAUNCH).format(**schedule)
    return module_text("Cross-entropy", schedule, [kernel], _HOST, launch)


def _power(schedule: Schedule, exponent: str) -> str:
    return f"tl.exp({exponent})" if schedule["base"] == "e" else f"tl.exp2(({exponent}) * 1.4426950408889634)"
