"""Attention's schedules, and from a schedule to a Triton module."""

import textwrap

from ..schedule import Schedule, ScheduleSpace
from .modules import module_text

SPACE = ScheduleSpace.of(
    ("causal", "parted short whole", "keys up to the diagonal, masked only there; or masked everywhere; or all keys"),
    ("rows", "64 128", "queries of a program"),
    ("keys", "32 64 128", "keys of a step"),
    ("base", "two e", "exp2 of what is scaled once, or exp"),
    ("order", "last first", "whether the programs of the last queries, which see most, start first"),
    ("warps", "4 8", "warps of a program"),
    ("stages", "2 3 4", "steps that are loaded ahead"),
)

_STEP = '''
@triton.jit
def step(q, k_ptr, v_ptr, peak, total, out, row, start, n, scale,
         MASKED: tl.constexpr, CAUSAL: tl.constexpr, D: tl.constexpr, KEYS: tl.constexpr):
    """Scores of one tile of keys, and what they change in maxima, sums and output."""
    key = start + tl.arange(0, KEYS)
    channel = tl.arange(0, D)
    inside = key < n
    k = tl.load(k_ptr + key[None, :] * D + channel[:, None], mask=inside[None, :], other=0.0)
    score = tl.dot(q, k) * scale
    if MASKED:
        seen = inside[None, :] & (key[None, :] <= row[:, None]) if CAUSAL else inside[None, :]
        score = tl.where(seen, score, -1.0e30)
    higher = tl.maximum(peak, tl.max(score, 1))
    weight = tl.{exp}(score - higher[:, None])
    if MASKED:
        weight = tl.where(seen, weight, 0.0)
    fade = tl.{exp}(peak - higher)
    total = total * fade + tl.sum(weight, 1)
    v = tl.load(v_ptr + key[:, None] * D + channel[None, :], mask=inside[:, None], other=0.0)
    out = tl.dot(weight.to(v.dtype), v, out * fade[:, None])
    return higher, total, out

'''

_ATTENTION = '''
@triton.jit
def attention(q_ptr, k_ptr, v_ptr, out_ptr, n, scale,
              CAUSAL: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr):
    """The output of one tile of queries."""
    tile = {tile}
    base = tl.program_id(1).to(tl.int64) * n * D
    row = tile * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, D)
    q = tl.load(q_ptr + base + row[:, None] * D + channel[None, :], mask=(row < n)[:, None], other=0.0)
    k_ptr += base
    v_ptr += base
    peak = tl.full([ROWS], -1.0e30, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    out = tl.zeros([ROWS, D], tl.float32)
{loops}
    tl.store(out_ptr + base + row[:, None] * D + channel[None, :],
             (out / total[:, None]).to(out_ptr.dtype.element_ty), mask=(row < n)[:, None])

'''

_LOOP = """for start in range({first}, {end}, KEYS):
    peak, total, out = step(q, k_ptr, v_ptr, peak, total, out, row, start, n, scale, {masked}, CAUSAL, D, KEYS)
"""

_PARTED = """whole = n // KEYS * KEYS
end = n
if CAUSAL:
    whole = tl.minimum(whole, tile * ROWS // KEYS * KEYS)
    end = tl.minimum(n, (tile + 1) * ROWS)
"""

_SHORT = """end = n
if CAUSAL:
    end = tl.minimum(n, (tile + 1) * ROWS)
"""

_HOST = '''
def custom_kernel(data):
    """softmax(q k^T / sqrt(d)) v."""
    q, k, v, causal = data
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    batch, heads, n, d = q.shape
    out = torch.empty_like(q)
{launch}
    return out
'''

_LAUNCH = (
    "attention[(triton.cdiv(n, {rows}), batch * heads)](\n"
    "    q, k, v, out, n, d**-0.5{factor}, CAUSAL=causal, D=d, ROWS={rows}, KEYS={keys},\n"
    "    num_warps={warps}, num_stages={stages},\n"
    ")"
)


def render_attention(schedule: Schedule) -> str:
    """Write the module of a valid schedule."""
    two = schedule["base"] == "two"
    masked = _LOOP.format(first="0", end="n", masked="True")
    loops = {
        "whole": masked,
        "short": _SHORT + _LOOP.format(first="0", end="end", masked="True"),
        "parted": _PARTED
        + _LOOP.format(first="0", end="whole", masked="False")
        + _LOOP.format(first="whole", end="end", masked="True"),
    }[schedule["causal"]]
    last = schedule["order"] == "last"
    kernels = [
        _STEP.format(exp="exp2" if two else "exp"),
        _ATTENTION.format(
            tile="tl.num_programs(0) - 1 - tl.program_id(0)" if last else "tl.program_id(0)",
            loops=textwrap.indent(loops, "    ").rstrip("\n"),
        ),
    ]
    launch = _LAUNCH.format(**schedule, factor=" * 1.4426950408889634" if two else "")
    return module_text("Attention", schedule, kernels, _HOST, launch)
