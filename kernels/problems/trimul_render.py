"""From a schedule of TriMul to a Triton module: the kernels that it uses, and a `custom_kernel` that launches them."""

from ..schedule import Schedule
from .modules import module_text
from .trimul_kernels import (
    FINISH,
    GATE_NORM,
    GATED,
    HOST,
    LAYER_NORM,
    MOMENTS,
    NORMALISED_FUSED,
    NORMALISED_STORED,
    PROJECT_ALL,
    PROJECT_PAIR,
    TRIANGLE,
)


def render_trimul(schedule: Schedule) -> str:
    """Write the module of a valid schedule of TriMul's space."""
    front = schedule["fusion"] in ("front", "both")
    back = schedule["fusion"] in ("back", "both")
    first = schedule["layout"] == "channel_first"
    storage = "torch.float16" if schedule["precision"] == "half" else "torch.float32"
    exact = ', input_precision="tf32x3"' if schedule["precision"] == "strict" else ""
    gated = GATED.format(place=_place(first, "i", "j", "channel"))
    kernels = [
        *_front_kernels(front, schedule["front_split"] == "joint", first, exact),
        _triangle_kernel(first, exact),
        (FINISH if back else GATE_NORM).format(gated=gated, exact=exact),
    ]
    stages = (
        _front_launches(schedule, front, storage) + _triangle_launch(schedule, first) + _back_launches(schedule, back)
    )
    host = HOST.format(storage=storage, launch="{launch}")
    return module_text("TriMul", schedule, kernels, host, "\n".join(stages))


def _place(first: bool, i: str, k: str, channel: str) -> str:
    if first:
        return f"place = (batch * HIDDEN + {channel}[None, :]) * n * stride + {i} * stride + {k}[:, None]"
    return f"place = ((batch * n + {i}) * stride + {k}[:, None]) * HIDDEN + {channel}[None, :]"


def _front_kernels(fused: bool, joint: bool, first: bool, exact: str) -> list[str]:
    if fused:
        fields = {
            "head": "x_ptr, norm_weight_ptr, norm_bias_ptr, ",
            "moments": "    mean, scale = moments(x_ptr, row, inside, dim, ROWS, DEPTH)\n",
            "normalised": NORMALISED_FUSED,
        }
    else:
        fields = {"head": "x_ptr, ", "moments": "", "normalised": NORMALISED_STORED}
    kernel = (PROJECT_ALL if joint else PROJECT_PAIR).format(
        place=_place(first, "i", "k", "column"), exact=exact, **fields
    )
    return [MOMENTS if fused else LAYER_NORM, kernel]


def _triangle_kernel(first: bool, exact: str) -> str:
    if first:
        base = "base = tl.program_id(1) * n * stride"
        return TRIANGLE.format(tile="tl.program_id(0)", base=base, step="1", exact=exact).replace(" * 1,", ",")
    base = "base = tl.program_id(0) // channels * n * stride * channels + tl.program_id(0) % channels"
    return TRIANGLE.format(tile="tl.program_id(1)", base=base, step="channels", exact=exact)


def _front_launches(schedule: Schedule, fused: bool, storage: str) -> list[str]:
    rows = schedule["front_rows"]
    joint = schedule["front_split"] == "joint"
    strict = schedule["precision"] == "strict"
    # Three-part products need three times the registers for operands, and five sums those for five tiles.
    columns = f"min({(32 if strict or rows == '128' else 64) if joint else (64 if strict else 128)}, hidden)"
    warps = 8 if joint or rows == "128" else 4
    options = f"HIDDEN=hidden, ROWS={rows}, COLUMNS={columns}, DEPTH=32,\n    num_warps={warps}, num_stages=3,"
    lines = [f"blocks = triton.cdiv(n, {rows})"]
    head = "x, *norm, "
    if not fused:
        head = "normed, "
        lines += [
            f"normed = torch.empty(rows, dim, dtype={storage}, device=x.device)",
            "layer_norm[(triton.cdiv(rows, 16),)](x, *norm, normed, rows, dim, ROWS=16, BLOCK=128, num_warps=4)",
        ]
    if joint:
        return [
            *lines,
            f"project_all[(hidden // {columns}, n * blocks, batch)](",
            f"    {head}mask, w_in, sides[0], sides[1], gate, n, blocks, dim, stride,",
            f"    {options}",
            ")",
        ]
    return [
        *lines,
        f"project_pair[(2 * (hidden // {columns}), n * blocks, batch)](",
        f"    {head}mask, w_in, sides, n, blocks, dim, stride, sides.stride(0),",
        f"    {options}",
        ")",
        f"project_gate[(hidden // {columns}, n * blocks, batch)](",
        f"    {head}w_in, gate, n, blocks, dim,",
        f"    {options}",
        ")",
    ]


def _triangle_launch(schedule: Schedule, first: bool) -> list[str]:
    m, n = schedule["tile"].split("x")
    depth = 64 if schedule["precision"] == "half" else 32
    grid = "(tiles, batch * hidden)" if first else "(batch * hidden, tiles)"
    return [
        f"tiles = triton.cdiv(n, {m}) * triton.cdiv(n, {n})",
        f"triangle[{grid}](",
        f"    sides[0], sides[1], product, n, stride, {schedule['group']}, hidden,",
        f"    M={m}, N={n}, K={depth}, num_warps={schedule['warps']}, num_stages={schedule['stages']},",
        ")",
    ]


def _back_launches(schedule: Schedule, fused: bool) -> list[str]:
    rows = schedule["back_rows"]
    lines = [f"blocks = triton.cdiv(n, {rows})"]
    if fused:
        return [
            *lines,
            "finish[(n * blocks, batch)](",
            "    product, gate, *out_norm, w_out, out, n, blocks, dim, stride,",
            f"    HIDDEN=hidden, ROWS={rows}, COLUMNS=64, num_warps=8, num_stages=2,",
            ")",
        ]
    return [
        *lines,
        "y = torch.empty_like(gate)",
        "gated_norm[(n * blocks, batch)](",
        f"    product, gate, *out_norm, y, n, blocks, stride, HIDDEN=hidden, ROWS={rows}, num_warps=8,",
        ")",
        f"project_out[(triton.cdiv(dim, 64), triton.cdiv(rows, {rows}))](",
        f"    y, w_out, out, rows, dim, HIDDEN=hidden, ROWS={rows}, COLUMNS=64, DEPTH=min(32, hidden),",
        "    num_warps=4, num_stages=3,",
        ")",
    ]
