"""The matrix product's schedules, and from a schedule to a Triton module."""

import textwrap

from ..schedule import Schedule, ScheduleSpace
from .modules import module_text

SPACE = ScheduleSpace.of(
    ("walk", "tiles persistent", "one program a tile, or one a multiprocessor that walks over tiles"),
    ("epilogue", "fused separate", "bias and activation in the product's kernel, or in one of their own"),
    ("tile", "128x256 128x128 128x64 64x64", "tile of the output"),
    ("depth", "32 64 128", "columns of a that are multiplied in one step"),
    ("group", "8 4 1", "rows of tiles that are walked together, for reuse in L2"),
    ("warps", "8 4", "warps of a program"),
    ("stages", "3 4 5", "steps that are loaded ahead"),
)

_TILE = """first = tile // (GROUP * tiles_n) * GROUP
height = tl.minimum(tiles_m - first, GROUP)
row = (first + tile % (GROUP * tiles_n) % height) * M + tl.arange(0, M)
column = tile % (GROUP * tiles_n) // height * N + tl.arange(0, N)
total = tl.zeros([M, N], tl.float32)
for start in range(0, k, K):
    valid = start + depth < k
    a = tl.load(a_ptr + row[:, None] * k + start + depth[None, :],
                mask=(row < m)[:, None] & valid[None, :], other=0.0)
    b = tl.load(b_ptr + (start + depth[:, None]) * n + column[None, :],
                mask=valid[:, None] & (column < n)[None, :], other=0.0)
    total = tl.dot(a, b, total)
{finish}tl.store(out_ptr + row[:, None] * n + column[None, :], total.to(out_ptr.dtype.element_ty),
         mask=(row < m)[:, None] & (column < n)[None, :])
"""

_FINISH = """total += tl.load(bias_ptr + column, mask=column < n, other=0.0).to(tl.float32)[None, :]
if ACTIVATION == 1:
    total = tl.maximum(total, 0.0)
if ACTIVATION == 2:
    total = total * tl.sigmoid(total)
"""

_PRODUCT = '''
@triton.jit
def product(a_ptr, b_ptr, {bias}out_ptr, m, n, k,
            {activation}M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GROUP: tl.constexpr):
    """{about}"""
    tiles_m = tl.cdiv(m, M)
    tiles_n = tl.cdiv(n, N)
    depth = tl.arange(0, K)
{body}
'''

_EPILOGUE = '''
@triton.jit
def epilogue(total_ptr, bias_ptr, out_ptr, m, n, ACTIVATION: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    """Bias and activation of one tile."""
    row = tl.program_id(1) * M + tl.arange(0, M)
    column = tl.program_id(0) * N + tl.arange(0, N)
    inside = (row < m)[:, None] & (column < n)[None, :]
    total = tl.load(total_ptr + row[:, None] * n + column[None, :], mask=inside, other=0.0)
{finish}    tl.store(out_ptr + row[:, None] * n + column[None, :], total.to(out_ptr.dtype.element_ty), mask=inside)

'''

_HOST = '''
def custom_kernel(data):
    """act(a @ b + bias)."""
    a, b, bias, activation = data
    a, b = a.contiguous(), b.contiguous()
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n, dtype=torch.float16, device=a.device)
    which = {"none": 0, "relu": 1, "silu": 2}[activation]
{launch}
    return out
'''


def render_matmul(schedule: Schedule) -> str:
    """Write the module of a valid schedule."""
    fused, persistent = schedule["epilogue"] == "fused", schedule["walk"] == "persistent"
    tile = _TILE.format(finish=_FINISH if fused else "")
    if persistent:
        about = "The tiles of one program of the product, one after another."
        walk = "for tile in range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0)):\n"
        body = walk + textwrap.indent(tile, "    ")
    else:
        about, body = "One tile of the product.", "tile = tl.program_id(0)\n" + tile
    product = _PRODUCT.format(
        bias="bias_ptr, " if fused else "",
        activation="ACTIVATION: tl.constexpr, " if fused else "",
        about=about,
        body=textwrap.indent(body, "    "),
    )
    kernels = [product] if fused else [product, _EPILOGUE.format(finish=textwrap.indent(_FINISH, "    "))]
    return module_text("Matrix product", schedule, kernels, _HOST, _launches(schedule, fused, persistent))


def _launches(schedule: Schedule, fused: bool, persistent: bool) -> str:
    m, n = schedule["tile"].split("x")
    lines = [f"tiles = triton.cdiv(m, {m}) * triton.cdiv(n, {n})"]
    if not fused:
        lines.append("total = torch.empty(m, n, dtype=torch.float32, device=a.device)")
    lines += [
        f"product[({'min(tiles, 132)' if persistent else 'tiles'},)](",
        f"    a, b, {'bias, out' if fused else 'total'}, m, n, k,",
        f"    {'ACTIVATION=which, ' if fused else ''}M={m}, N={n}, K={schedule['depth']}, GROUP={schedule['group']},",
        f"    num_warps={schedule['warps']}, num_stages={schedule['stages']},",
        ")",
    ]
    if not fused:
        lines += [
            "epilogue[(triton.cdiv(n, 128), triton.cdiv(m, 16))](",
            "    total, bias, out, m, n, ACTIVATION=which, M=16, N=128, num_warps=4,",
            ")",
        ]
    return "\n".join(lines)
