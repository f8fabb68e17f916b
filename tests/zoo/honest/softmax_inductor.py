"""Softmax in the manner of a compiler's output: flat indices, persistent reduction, odd names."""

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

HONEST = {"problem": "softmax", "kind": "generated style"}


@triton.jit
def triton_per_fused__softmax_0(in_ptr0, out_ptr2, xnumel, r0_numel, XBLOCK: tl.constexpr, R0_BLOCK: tl.constexpr):
    rnumel = r0_numel
    RBLOCK: tl.constexpr = R0_BLOCK
    xoffset = tl.program_id(0) * XBLOCK
    xindex = xoffset + tl.arange(0, XBLOCK)[:, None]
    xmask = xindex < xnumel
    r0_index = tl.arange(0, R0_BLOCK)[None, :]
    r0_offset = 0
    r0_mask = r0_index < r0_numel
    roffset = r0_offset
    rindex = r0_index
    r0_1 = r0_index
    x0 = xindex
    tmp0 = tl.load(in_ptr0 + (r0_1 + r0_numel * x0), r0_mask & xmask, other=0.0).to(tl.float32)
    tmp1 = tl.broadcast_to(tmp0, [XBLOCK, R0_BLOCK])
    tmp3 = tl.where(r0_mask & xmask, tmp1, float("-inf"))
    tmp4 = tl.max(tmp3, 1)[:, None].to(tl.float32)
    tmp5 = tmp0 - tmp4
    tmp6 = libdevice.exp(tmp5)
    tmp7 = tl.broadcast_to(tmp6, [XBLOCK, R0_BLOCK])
    tmp9 = tl.where(r0_mask & xmask, tmp7, 0)
    tmp10 = tl.sum(tmp9, 1)[:, None].to(tl.float32)
    tmp11 = tmp6 / tmp10
    tl.store(out_ptr2 + (r0_1 + r0_numel * x0), tmp11, r0_mask & xmask)


def custom_kernel(data):
    x = data
    rows, columns = x.shape
    y = torch.empty_strided(x.size(), x.stride(), dtype=x.dtype, device=x.device)
    width = triton.next_power_of_2(columns)
    xblock = max(1, min(8, 4096 // width))
    grid = (triton.cdiv(rows, xblock), 1, 1)
    triton_per_fused__softmax_0[grid](
        x, y, rows, columns, XBLOCK=xblock, R0_BLOCK=width, num_warps=min(32, max(4, width // 512))
    )
    return y
