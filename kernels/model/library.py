"""What torch hands to cuBLAS, cuDNN and flash attention: products, with the copies that their layouts ask for."""

import math
from dataclasses import replace

from .access import Tensor, count, is_contiguous, itemsize, like, straight, tensors
from .kernels import Kernel
from .products import Product
from .steps import Flags, Step, copied, written

PRODUCTS = frozenset({
    "mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "linear", "matmul", "_scaled_mm", "_int_mm",
    "_addmm_activation",
})  # fmt: skip


def product_kind(dtype: str, tf32: bool) -> str:
    """How a product of this element type is computed."""
    if dtype == "float32":
        return "tf32" if tf32 else "fp32"
    return {"float16": "fp16", "bfloat16": "bf16", "float64": "fp64", "int8": "int8"}.get(
        dtype, "fp8" if dtype.startswith("float8") else "fp32"
    )


def product(step: Step, name: str, flags: Flags) -> list[Kernel]:
    """A product of cuBLAS, after copies of operands that it can't read as they lie."""
    given, outputs = list(tensors(step["args"])), written(step)
    added = given[:1] if name in ("addmm", "baddbmm", "addbmm", "addmv", "_addmm_activation") else []
    a, b = given[len(added) : len(added) + 2]
    a, b = _matrix(a, 0), _matrix(_turned(b) if name == "linear" else b, 1)
    added = [*added, *(given[2:3] if name == "linear" else [])]
    copies_a, a = _legal(a)
    copies_b, b = _legal(b)
    (out, *_) = outputs
    multiplied = Product(
        kind=product_kind(a["dtype"], bool(flags.get("tf32"))),
        m=a["sizes"][-2],
        n=b["sizes"][-1],
        k=a["sizes"][-1],
        batch=max(math.prod(a["sizes"][:-2]), math.prod(b["sizes"][:-2])),
        aligned=_aligned(a) and _aligned(b) and _aligned(out),
    )
    traffic = [straight(a), straight(b), straight(out, writes=True)]
    traffic += [straight(t) for t in added]
    return [*copies_a, *copies_b, Kernel(name, tuple(traffic), multiplied, reach=0.87, dispatch=1.6)]


def _matrix(tensor: Tensor, side: int) -> Tensor:
    """A vector as a matrix of one row or column."""
    if len(tensor["sizes"]) >= 2:
        return tensor
    sizes, strides = list(tensor["sizes"]), list(tensor["strides"])
    one = {"sizes": [1, *sizes], "strides": [sizes[0], *strides]}
    other = {"sizes": [*sizes, 1], "strides": [*strides, 1]}
    return {**tensor, **(other if side else one)}


def _turned(tensor: Tensor) -> Tensor:
    return {**tensor, "sizes": [*tensor["sizes"]][::-1], "strides": [*tensor["strides"]][::-1]}


def _legal(tensor: Tensor) -> tuple[list[Kernel], Tensor]:
    """What cuBLAS can read: one of the last two axes of stride 1, the other no shorter than it; else a copy."""
    (rows, columns), (down, across) = tensor["sizes"][-2:], tensor["strides"][-2:]
    if (across == 1 or columns == 1) and (down >= columns or rows == 1):
        return [], tensor
    if (down == 1 or rows == 1) and (across >= rows or columns == 1):
        return [], tensor
    return copied(tensor)


def _aligned(tensor: Tensor) -> bool:
    """Whether every row starts at 16 bytes."""
    size = itemsize(tensor["dtype"])
    outer = [s for s, n in zip(tensor["strides"], tensor["sizes"], strict=True) if s != 1 and n > 1]
    return all(stride * size % 16 == 0 for stride in [*outer, tensor["offset"]])


def convolution(step: Step, name: str, flags: Flags) -> list[Kernel]:
    """A convolution of cuDNN, turned to channels last and back where its tensor-core kernels ask for that."""
    source, weight = list(tensors(step["args"]))[:2]
    (out, *_) = written(step)
    channels_out, *window = weight["sizes"]
    kind = product_kind(source["dtype"], bool(flags.get("cudnn_tf32", True)))
    multiplied = Product(kind, m=count(out) // channels_out, n=channels_out, k=math.prod(window))
    traffic = (straight(source), straight(weight), straight(out, writes=True))
    kernels = [Kernel(name, traffic, multiplied, reach=0.8, dispatch=2.5)]
    if kind != "fp32" and is_contiguous(source) and len(source["sizes"]) > 3 and math.prod(source["sizes"][2:]) > 1:
        # cuDNN's tensor-core kernels want channels last: it turns the input before and the output after.
        turn = [replace(_turn(t), dispatch=0.3) for t in (source, out)]
        return [turn[0], kernels[0], turn[1]]
    return kernels


def _turn(tensor: Tensor) -> Kernel:
    return Kernel("nchwToNhwc", (straight(tensor), replace(straight(tensor, writes=True), storage=-1)), reach=0.75)


def attention(step: Step, name: str, flags: Flags) -> list[Kernel]:
    """A fused attention, or its three steps where the backend is plain."""
    query, key, value = list(tensors(step["args"]))[:3]
    *batch, rows, width = query["sizes"]
    columns = key["sizes"][-2]
    heads = math.prod(batch)
    kind = product_kind(query["dtype"], bool(flags.get("tf32")))
    slow = "math" in name
    multiplied = Product(kind, rows, columns, width + value["sizes"][-1], heads)
    traffic = [straight(t) for t in (query, key, value)] + [straight(t, writes=True) for t in written(step)]
    if slow:
        scores = like({**query, "sizes": [*batch, rows, columns]}, storage=-1)
        traffic += [straight(scores, writes=True), straight(scores, times=2.0)]
    # Exponentials go through pipes of 16 lanes, four times as slow as the others.
    operations = 8.0 * heads * rows * columns
    return [Kernel(name, tuple(traffic), multiplied, operations=operations, reach=0.85, dispatch=4.0)]
