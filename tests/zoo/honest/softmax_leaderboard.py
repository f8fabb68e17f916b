#!POPCORN leaderboard softmax
#!POPCORN gpus H100
"""As files for leaderboards are written: a module under inference mode, constants worked out, a guard for main."""

from __future__ import annotations

import os

os.environ["TRITON_PRINT_AUTOTUNING"] = "0"
import functools
import math
import typing as t

import torch
import torch.nn as nn
import triton
from triton import jit
from triton import language as tl
from triton import next_power_of_2 as np2

HONEST = {"problem": "softmax", "kind": "leaderboard manners: inference mode, a module, constants worked out"}

try:
    from task import input_t, output_t
except ImportError:
    input_t = output_t = t.Any
torch.set_float32_matmul_precision("high")
torch.backends.cuda.matmul.allow_tf32 = True
torch.backends.cudnn.benchmark = True
torch.set_grad_enabled(False)
DEVICE = torch.device("cuda:0") if torch.cuda.is_available() else torch.device("cpu")
SMS = torch.cuda.get_device_properties(DEVICE).multi_processor_count
assert torch.cuda.get_device_capability()[0] >= 9
NEG: tl.constexpr = float("-inf")
LOG2E = tl.constexpr(math.log2(math.e))
print("module loaded", SMS)


@jit
def _row_max(x, axis: tl.constexpr = 0):
    return tl.max(x, axis)


@triton.jit(do_not_specialize=["columns"])
def softmax_kernel(x_ptr, y_ptr, rows, columns, stride: tl.int64, BLOCK: tl.constexpr, NUM: tl.constexpr = 1):
    """Persistent rows."""
    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0), num_stages=2):
        offs = tl.arange(0, BLOCK)
        m = offs < columns
        x = tl.load(x_ptr + row * stride + offs, mask=m, other=NEG).to(tl.float32)
        e = tl.math.exp2((x - _row_max(x)) * LOG2E)
        tl.store(y_ptr + row * stride + offs, (e / tl.sum(e, axis=0)).to(y_ptr.dtype.element_ty), mask=m)


class Softmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scratch", torch.empty(0, device="cuda"), persistent=False)

    @torch.inference_mode()
    def forward(self, x):
        rows, columns = x.shape
        if self.scratch.shape != x.shape or self.scratch.device != x.device:
            self.scratch = x.new_empty(x.shape)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        grid = lambda meta: (min(SMS * 4, rows), 1, 1)
        with torch.cuda.device(x.device):
            softmax_kernel[grid](x, y, rows, columns, x.stride(0), BLOCK=np2(columns), num_warps=8, num_stages=2)
        return y


@functools.cache
def model():
    return Softmax().eval().to(DEVICE)


def custom_kernel(data: input_t) -> output_t:
    x = data
    assert x.is_cuda, f"{x.device}"
    return model()(x)


if __name__ == "__main__":
    print(custom_kernel(torch.randn(4, 4, device="cuda")))
