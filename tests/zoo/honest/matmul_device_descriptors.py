"""Matmul over tensor descriptors that the kernel makes, where rows are a multiple of 16 bytes; else over pointers."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "matmul", "kind": "tensor descriptors made on the device"}


@triton.jit
def epilogue(total, bias, ACTIVATION: tl.constexpr):
    total += bias.to(tl.float32)
    if ACTIVATION == "relu":
        total = tl.maximum(total, 0.0)
    elif ACTIVATION == "silu":
        total = total * tl.sigmoid(total)
    return total


@triton.jit
def by_descriptor(
    a_ptr, b_ptr, bias_ptr, out_ptr, m, n, k, ACTIVATION: tl.constexpr, TILE: tl.constexpr, DEPTH: tl.constexpr
):
    a = tl.make_tensor_descriptor(a_ptr, shape=[m, k], strides=[k, 1], block_shape=[TILE, DEPTH])
    b = tl.make_tensor_descriptor(b_ptr, shape=[k, n], strides=[n, 1], block_shape=[DEPTH, TILE])
    out = tl.make_tensor_descriptor(out_ptr, shape=[m, n], strides=[n, 1], block_shape=[TILE, TILE])
    top, left = tl.program_id(1) * TILE, tl.program_id(0) * TILE
    total = tl.zeros([TILE, TILE], tl.float32)
    for start in tl.range(0, k, DEPTH, warp_specialize=False):
        total = tl.dot(a.load([top, start]), b.load([start, left]), total)
    column = left + tl.arange(0, TILE)
    bias = tl.load(bias_ptr + column, mask=column < n, other=0.0)
    out.store([top, left], epilogue(total, bias[None, :], ACTIVATION).to(out_ptr.dtype.element_ty))


@triton.jit
def by_pointer(
    a_ptr, b_ptr, bias_ptr, out_ptr, m, n, k, ACTIVATION: tl.constexpr, TILE: tl.constexpr, DEPTH: tl.constexpr
):
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    column = tl.program_id(0) * TILE + tl.arange(0, TILE)
    total = tl.zeros([TILE, TILE], tl.float32)
    for start in range(0, k, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        a = tl.load(
            a_ptr + row[:, None] * k + depth[None, :], mask=(row < m)[:, None] & (depth < k)[None, :], other=0.0
        )
        b = tl.load(
            b_ptr + depth[:, None] * n + column[None, :], mask=(depth < k)[:, None] & (column < n)[None, :], other=0.0
        )
        total = tl.dot(a, b, total)
    bias = tl.load(bias_ptr + column, mask=column < n, other=0.0)
    y = epilogue(total, bias[None, :], ACTIVATION).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row[:, None] * n + column[None, :], y, mask=(row < m)[:, None] & (column < n)[None, :])


def allocate(size, alignment, stream):
    return torch.empty(size, device="cuda", dtype=torch.int8)


triton.set_allocator(allocate)


def custom_kernel(data):
    a, b, bias, activation = data
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n, dtype=torch.float16, device="cuda")
    aligned = all(x.stride(0) * x.element_size() % 16 == 0 and x.data_ptr() % 16 == 0 for x in (a, b, out))
    kernel = by_descriptor if aligned else by_pointer
    kernel[(triton.cdiv(n, 64), triton.cdiv(m, 64))](a, b, bias, out, m, n, k, ACTIVATION=activation, TILE=64, DEPTH=32)
    return out
