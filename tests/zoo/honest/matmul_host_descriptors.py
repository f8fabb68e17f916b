"""Matmul over tensor descriptors made on the host, for the tensor memory accelerator, where strides allow."""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

HONEST = {"problem": "matmul", "kind": "tensor descriptors from the host, frozen autotune config with a pre-hook"}


@triton.jit
def epilogue(total, bias, ACTIVATION: tl.constexpr):
    total += bias.to(tl.float32)
    if ACTIVATION == "relu":
        total = tl.maximum(total, 0.0)
    elif ACTIVATION == "silu":
        total = total * tl.sigmoid(total)
    return total


def set_blocks(named):
    tile_m, tile_n, depth = named["TILE_M"], named["TILE_N"], named["DEPTH"]
    named["a_desc"].block_shape = [tile_m, depth]
    named["b_desc"].block_shape = [depth, tile_n]
    named["out_desc"].block_shape = [tile_m, tile_n]


BEST = triton.Config({"TILE_M": 64, "TILE_N": 64, "DEPTH": 64}, num_stages=3, num_warps=4, pre_hook=set_blocks)


@triton.autotune(configs=[BEST], key=["m", "n", "k"])
@triton.jit
def matmul(
    a_desc,
    b_desc,
    bias_ptr,
    out_desc,
    m,
    n,
    k,
    ACTIVATION: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
    DEPTH: tl.constexpr,
):
    top = tl.program_id(0) * TILE_M
    left = tl.program_id(1) * TILE_N
    total = tl.zeros([TILE_M, TILE_N], tl.float32)
    for start in range(0, k, DEPTH):
        a = a_desc.load([top, start])
        b = b_desc.load([start, left])
        total = tl.dot(a, b, total)
    column = left + tl.arange(0, TILE_N)
    bias = tl.load(bias_ptr + column, mask=column < n, other=0.0)
    out_desc.store([top, left], epilogue(total, bias[None, :], ACTIVATION).to(out_desc.dtype))


def padded(x):
    """A row must be a multiple of 16 bytes."""
    extra = -x.shape[1] % 8
    return x.contiguous() if extra == 0 else torch.nn.functional.pad(x, (0, extra))


def custom_kernel(data):
    a, b, bias, activation = data
    (m, k), n = a.shape, b.shape[1]
    a, b = padded(a), padded(b)
    out = torch.empty(m, b.shape[1], dtype=torch.float16, device="cuda")
    a_desc, b_desc, out_desc = (TensorDescriptor.from_tensor(each, [1, 1]) for each in (a, b, out))
    grid = lambda meta: (triton.cdiv(m, meta["TILE_M"]), triton.cdiv(n, meta["TILE_N"]))
    matmul[grid](a_desc, b_desc, bias, out_desc, m, n, k, ACTIVATION=activation)
    return out if out.shape[1] == n else out[:, :n].contiguous()
