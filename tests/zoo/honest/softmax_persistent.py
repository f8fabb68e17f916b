"""Softmax with a fixed number of programs that stride over the rows, each row in one block."""

import torch
import triton
import triton.language as tl

HONEST = {"problem": "softmax", "kind": "persistent rows with software pipelining and heuristics"}


PROGRAMS = 4 * torch.cuda.get_device_properties(torch.device("cuda", 0)).multi_processor_count


@triton.heuristics(
    {
        "BLOCK": lambda arguments: triton.next_power_of_2(arguments["columns"]),
        "num_warps": lambda arguments: (
            4 if arguments["columns"] <= 2048 else 8 if arguments["columns"] <= 16384 else 32
        ),
    }
)
@triton.jit
def softmax(x_ptr, y_ptr, rows, columns, STAGES: tl.constexpr, BLOCK: tl.constexpr):
    start, step = tl.program_id(0), tl.num_programs(0)
    column = tl.arange(0, BLOCK)
    for row in tl.range(start, rows, step, num_stages=STAGES):
        x = tl.load(x_ptr + row * columns + column, mask=column < columns, other=-float("inf")).to(tl.float32)
        raised = tl.exp2((x - tl.max(x, axis=0)) * 1.4426950408889634)
        y = raised / tl.sum(raised, axis=0)
        tl.store(y_ptr + row * columns + column, y.to(y_ptr.dtype.element_ty), mask=column < columns)


def custom_kernel(data):
    x = data
    rows, columns = x.shape
    y = torch.empty(x.shape, dtype=x.dtype, device="cuda")
    softmax[(min(rows, PROGRAMS),)](x, y, rows, columns, STAGES=2)
    return y
