"""LayerNorm, plainly: one program a row, which it reads three times: for the mean, the variance and the output."""

import torch
import triton
import triton.language as tl


@triton.jit
def layer_norm(x_ptr, weight_ptr, bias_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    """One row."""
    x_ptr += tl.program_id(0) * columns
    y_ptr += tl.program_id(0) * columns
    column = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, columns, BLOCK):
        total += tl.load(x_ptr + start + column, mask=start + column < columns, other=0.0)
    mean = tl.sum(total, 0) / columns
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, columns, BLOCK):
        x = tl.load(x_ptr + start + column, mask=start + column < columns, other=0.0)
        centred = tl.where(start + column < columns, x - mean, 0.0)
        total += centred * centred
    scale = tl.rsqrt(tl.sum(total, 0) / columns + 1e-5)
    for start in range(0, columns, BLOCK):
        inside = start + column < columns
        x = tl.load(x_ptr + start + column, mask=inside, other=0.0)
        weight = tl.load(weight_ptr + start + column, mask=inside, other=0.0)
        bias = tl.load(bias_ptr + start + column, mask=inside, other=0.0)
        tl.store(y_ptr + start + column, (x - mean) * scale * weight + bias, mask=inside)


def custom_kernel(data):
    x, weight, bias = data
    x = x.contiguous()
    rows, columns = x.shape
    y = torch.empty_like(x)
    layer_norm[(rows,)](x, weight, bias, y, columns, BLOCK=1024)
    return y
