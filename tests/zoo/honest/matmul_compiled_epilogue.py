"""Matmul in Triton with its epilogue in `torch.compile`d torch code."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "matmul", "kind": "torch.compile for the epilogue, maxnreg, closure grid"}


@triton.jit
def matmul(a_ptr, b_ptr, sums_ptr, m, n, k, TILE: tl.constexpr, DEPTH: tl.constexpr):
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    column = tl.program_id(1) * TILE + tl.arange(0, TILE)
    total = tl.zeros([TILE, TILE], tl.float32)
    for start in range(0, k, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        a = tl.load(
            a_ptr + row[:, None] * k + depth[None, :], mask=(row < m)[:, None] & (depth < k)[None, :], other=0.0
        )
        b = tl.load(
            b_ptr + depth[:, None] * n + column[None, :], mask=(depth < k)[:, None] & (column < n)[None, :], other=0.0
        )
        total = tl.dot(a, b, total, out_dtype=tl.float32)
    tl.store(sums_ptr + row[:, None] * n + column[None, :], total, mask=(row < m)[:, None] & (column < n)[None, :])


@torch.compile(fullgraph=True, dynamic=False)
def finish(total, bias, activation):
    total = total + bias.float()
    if activation == "relu":
        total = torch.relu(total)
    if activation == "silu":
        total = torch.nn.functional.silu(total)
    return total.half()


def custom_kernel(data):
    a, b, bias, activation = data
    (m, k), n = a.shape, b.shape[1]
    sums = torch.empty((m, n), dtype=torch.float32, device="cuda")

    def grid(meta):
        return triton.cdiv(m, meta["TILE"]), triton.cdiv(n, meta["TILE"])

    matmul[grid](a, b, sums, m, n, k, TILE=64, DEPTH=64, num_warps=4, maxnreg=168)
    return finish(sums, bias, activation)
