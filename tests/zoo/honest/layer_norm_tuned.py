"""LayerNorm of many rows a program, its size chosen by the autotuner among several."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "layer_norm", "kind": "autotune with several configs, a key and an early prune"}


def fitting(configs, arguments, **more):
    """Leave out tiles that registers don't hold."""
    width = triton.next_power_of_2({**arguments, **more}["columns"])
    return [config for config in configs if config.kwargs["ROWS"] * width <= 1 << 15] or configs[:1]


@triton.autotune(
    configs=[triton.Config({"ROWS": rows}, num_warps=warps, num_stages=1) for rows in (1, 2, 8) for warps in (4, 8)],
    key=["columns"],
    prune_configs_by={"early_config_prune": fitting},
)
@triton.jit
def layer_norm(x_ptr, weight_ptr, bias_ptr, y_ptr, rows, columns, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    valid = (row < rows) & (column < columns)
    x = tl.load(x_ptr + row * columns + column, mask=valid, other=0.0).to(tl.float32)
    mean = tl.sum(x, 1, keep_dims=True) / columns
    x = tl.where(column < columns, x - mean, 0.0)
    variance = tl.sum(x * x, 1, keep_dims=True) / columns
    weight = tl.load(weight_ptr + column, mask=column < columns, other=0.0)
    bias = tl.load(bias_ptr + column, mask=column < columns, other=0.0)
    y = x / tl.sqrt(variance + 1e-5) * weight + bias
    tl.store(y_ptr + row * columns + column, y.to(y_ptr.dtype.element_ty), mask=valid)


def custom_kernel(data):
    x, weight, bias = data
    rows, columns = x.shape
    y = torch.empty_like(x)
    grid = lambda meta: (triton.cdiv(rows, meta["ROWS"]),)
    layer_norm[grid](x, weight, bias, y, rows, columns, BLOCK=triton.next_power_of_2(columns))
    return y
