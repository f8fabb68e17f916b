"""LayerNorm as a subclass of `nn.Module` that reads its own constants, with a kernel of typed parameters."""

import math

import torch
import triton.language as tl
from torch import nn
from triton import cdiv, jit, next_power_of_2

HONEST = {"problem": "layer_norm", "kind": "types as constexpr, computed constants, other import names"}


EPS: tl.constexpr = tl.constexpr(1e-5)
ROWS = tl.constexpr(4)


@jit
def layer_norm(
    x_ptr: tl.tensor,
    weight_ptr,
    bias_ptr,
    y_ptr,
    rows: int,
    columns,
    inverse: float,
    BLOCK: tl.constexpr,
    INNER: tl.constexpr = tl.float32,
):
    row = tl.program_id(axis=0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    valid = (row[:, None] < rows) & (column[None, :] < columns)
    at = row[:, None] * columns + column[None, :]
    x = tl.load(x_ptr + at, mask=valid, other=0).to(INNER)
    x = tl.where(valid, x - tl.sum(x, axis=1)[:, None] * inverse, 0)
    x *= tl.math.rsqrt(tl.sum(x * x, axis=1) * inverse + EPS)[:, None]
    weight = tl.load(weight_ptr + column, mask=column < columns, other=0).to(INNER)
    bias = tl.load(bias_ptr + column, mask=column < columns, other=0).to(INNER)
    tl.store(y_ptr + at, (x * weight + bias).to(y_ptr.dtype.element_ty), mask=valid)


class Norm(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.inverse = 1.0 / columns
        self.register_buffer("none", torch.zeros(0, device="cuda"))

    def forward(self, x, weight, bias):
        columns = x.shape[-1]
        rows = math.prod(x.shape[:-1])
        y = torch.empty_like(x)
        layer_norm[(cdiv(rows, 4),)](
            x, weight, bias, y, rows, columns, self.inverse, BLOCK=next_power_of_2(columns), INNER=tl.float32
        )
        return y


def custom_kernel(data):
    x, weight, bias = data
    return Norm(x.shape[-1]).cuda()(x, weight, bias)
