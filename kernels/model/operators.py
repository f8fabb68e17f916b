"""What eager PyTorch runs on the GPU for each aten operator, hidden copies included."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from .access import Tensor, Traffic, count, distinct, itemsize, straight, tensors, walk
from .kernels import Kernel
from .library import PRODUCTS, attention, convolution, product
from .steps import Flags, Step, contiguous, elementwise, mutates, name_of, written

_ROWS = frozenset({"_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax"})
_REDUCTIONS = frozenset({
    "sum", "mean", "amax", "amin", "max", "min", "var", "var_mean", "std", "std_mean", "norm", "linalg_vector_norm",
    "argmax", "argmin", "prod", "any", "all", "logsumexp", "aminmax", "nansum", "count_nonzero", "median",
})  # fmt: skip
_FILLS = frozenset({
    "fill", "zero", "zeros", "ones", "full", "arange", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones",
    "new_full", "eye", "linspace", "scalar_tensor", "tril_indices", "triu_indices", "uniform", "normal", "rand",
    "randn", "rand_like", "randn_like", "randint", "bernoulli", "exponential", "random", "randperm",
})  # fmt: skip
_NOTHING = frozenset({
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted", "resize", "set",
    "_assert_async", "lift_fresh", "lift_fresh_copy", "_nested_tensor_from_mask", "sym_size", "record_stream",
})  # fmt: skip
_READS = frozenset(
    {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "unique", "is_nonzero", "item"}
)
_GATHERS = frozenset({"embedding", "index", "gather", "index_select", "take", "take_along_dim", "_unsafe_index"})
_SCATTERS = frozenset(
    {"scatter", "scatter_add", "scatter_reduce", "index_put", "index_add", "index_copy", "_index_put_impl"}
)
_SORTS = frozenset({"sort", "argsort", "topk", "kthvalue"})
_SCANS = frozenset({"cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"})

NORM_CLOCKS = 1400.0
"""Clocks of a row of `native_layer_norm` beside its first load: two stages of a Welford reduction over four warps (5
shuffles and 2 exchanges by shared memory, each with a division), a second pass out of L1, and the block's start."""
NORM_THREADS = 128


def operator_kernels(step: Step, flags: Flags) -> list[Kernel]:
    """The kernels of one operator, in order; none for what only allocates."""
    name = name_of(step)
    if name in _NOTHING:
        return []
    return _handler(name)(step, name, flags)


def _handler(name: str) -> Callable[[Step, str, Flags], list[Kernel]]:
    if name in PRODUCTS:
        return product
    if name in ("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm"):
        return _norm
    if name in ("native_group_norm", "native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"):
        return _two_passes
    if name in _ROWS:
        return _rows
    if name in _REDUCTIONS:
        return _reduction
    if name in _SORTS | _SCANS:
        return _sort
    if name in ("cat", "stack"):
        return _cat
    if name in _FILLS:
        return _fill
    if name in _GATHERS:
        return _gather
    if name in _SCATTERS:
        return _scatter
    if name.startswith(("_scaled_dot_product", "_flash_attention", "_efficient_attention")):
        return attention
    if name in ("convolution", "_convolution", "cudnn_convolution", "conv2d"):
        return convolution
    return _elementwise


# --- over elements ---


def _elementwise(step: Step, name: str, flags: Flags) -> list[Kernel]:
    outputs = written(step)
    given = [*tensors(step["args"]), *tensors({k: v for k, v in step.get("kwargs", {}).items() if k != "out"})]
    if name == "copy" and mutates(step):
        given = given[1:]
    if not outputs:
        return [] if name not in _READS else [_read(name, given)]
    kernel = elementwise(name, outputs, given)
    return [replace(kernel, waits=name in _READS)]


def _read(name: str, given: Sequence[Tensor]) -> Kernel:
    return Kernel(name, tuple(straight(t) for t in given), dispatch=3.0, waits=True)


def _fill(step: Step, name: str, flags: Flags) -> list[Kernel]:
    outputs = written(step)
    random = name in ("uniform", "normal", "rand", "randn", "rand_like", "randn_like", "randint", "bernoulli")
    operations = (30.0 if random else 2.0) * sum(count(t) for t in outputs)
    return [Kernel(name, walk(outputs, []).traffic, operations=operations)] if outputs else []


def _cat(step: Step, name: str, flags: Flags) -> list[Kernel]:
    (out, *_) = written(step)
    kernels: list[Traffic] = []
    operations = 0.0
    for part in tensors(step["args"]):
        # Each part lies in the result as a block whose strides are the result's.
        strides = out["strides"][-len(part["sizes"]) :]
        place = {**part, "t": out["t"], "dtype": out["dtype"], "strides": strides}
        way = walk([place], [part])
        kernels += way.traffic
        operations += way.elements * (6.0 if way.axes <= 2 else 20.0)
    return [Kernel(name, tuple(kernels), operations=operations, reach=0.9, dispatch=1.3)]


# --- over rows ---


def _norm(step: Step, name: str, flags: Flags) -> list[Kernel]:
    given = list(tensors(step["args"]))
    source, extra = given[0], given[1:]
    copies, source = contiguous(source)
    width = _row(step, source)
    rows = count(source) / max(width, 1)
    traffic = [straight(source), *(straight(t) for t in extra), *(straight(t, writes=True) for t in written(step))]
    vector = 16 // itemsize(source["dtype"])
    passes = max(math.ceil(width / (NORM_THREADS * vector)), 1)
    kernel = Kernel(
        name,
        tuple(traffic),
        operations=16.0 * count(source),
        blocks=rows,
        clocks=NORM_CLOCKS + 150.0 * (passes - 1),
        dispatch=1.6,
    )
    return [*copies, kernel]


def _row(step: Step, source: Tensor) -> int:
    shape = step["args"][1] if len(step["args"]) > 1 else None
    if isinstance(shape, (list, tuple)):
        sizes = cast("Sequence[Any]", shape)
        if all(isinstance(size, int) for size in sizes):
            return math.prod(sizes)
    return int(source["sizes"][-1]) if source["sizes"] else 1


def _two_passes(step: Step, name: str, flags: Flags) -> list[Kernel]:
    given = list(tensors(step["args"]))
    copies, source = contiguous(given[0])
    statistics = Kernel(name, (straight(source),), operations=8.0 * count(source), reach=0.85, dispatch=1.6)
    (out, *_) = written(step)
    return [*copies, statistics, replace(elementwise(name, [out], [source]), dispatch=0.5)]


def _rows(step: Step, name: str, flags: Flags) -> list[Kernel]:
    (source, *_) = tensors(step["args"])
    copies, source = contiguous(source)
    traffic = (straight(source), *(straight(t, writes=True) for t in written(step)))
    width = int(source["sizes"][-1]) if source["sizes"] else 1
    again = 1.0 if width <= 1024 else 2.0  # longer rows are read again for their sum, mostly out of L2
    first = replace(traffic[0], sectors=traffic[0].sectors * again)
    return [*copies, Kernel(name, (first, *traffic[1:]), operations=20.0 * count(source), reach=0.9)]


def _reduction(step: Step, name: str, flags: Flags) -> list[Kernel]:
    given, outputs = list(tensors(step["args"])), written(step)
    if name in ("max", "min") and len(given) > 1:
        return [elementwise(name, outputs, given)]
    traffic = (*walk([], given[:1]).traffic, *(straight(t, writes=True) for t in outputs))
    factor = 12.0 if name.startswith(("var", "std")) else 5.0
    return [Kernel(name, traffic, operations=factor * count(given[0]), reach=0.85, dispatch=1.2, waits=name in _READS)]


def _sort(step: Step, name: str, flags: Flags) -> list[Kernel]:
    (source, *_) = tensors(step["args"])
    radix = 2.0 * itemsize(source["dtype"]) if name in ("sort", "argsort") else 1.5
    passes = 4.0 if name in ("topk", "kthvalue") else radix
    traffic = (straight(source, times=passes), *(straight(t, writes=True, times=passes) for t in written(step)))
    whole = tuple(replace(t, least=t.sectors) for t in traffic)
    return [Kernel(name, whole, operations=20.0 * passes * count(source), reach=0.6, dispatch=3.0)]


# --- by index ---


def _gather(step: Step, name: str, flags: Flags) -> list[Kernel]:
    (source, *indices), (out, *_) = list(tensors(step["args"])), written(step)
    fetched = Traffic(
        int(source["t"]),
        useful=float(count(out) * itemsize(source["dtype"])),
        least=min(distinct(source), _scattered(out, source)),
        sectors=_scattered(out, source),
        footprint=distinct(source),
    )
    traffic = (fetched, *(straight(t) for t in indices), straight(out, writes=True))
    return [Kernel(name, traffic, operations=25.0 * count(out), dispatch=1.5)]


def _scatter(step: Step, name: str, flags: Flags) -> list[Kernel]:
    (target, *rest), outputs = list(tensors(step["args"])), written(step)
    copies = [elementwise("clone", outputs[:1], [target])] if outputs and not mutates(step) else []
    source = max(rest, key=count) if rest else target
    moved = _scattered(source, target)
    touched = Traffic(
        int(target["t"]),
        useful=float(count(source) * itemsize(target["dtype"])),
        least=min(distinct(target), moved),
        sectors=2 * moved,
        footprint=distinct(target),
        writes=True,
    )
    traffic = (touched, *(straight(t) for t in rest))
    return [*copies, Kernel(name, traffic, operations=25.0 * count(source), dispatch=1.5)]


def _scattered(moved: Tensor, table: Tensor) -> float:
    """Bytes of sectors when rows of the table come in any order: a row is what its last axis holds in one run."""
    size = itemsize(table["dtype"])
    run = size * (table["sizes"][-1] if len(table["sizes"]) > 1 and table["strides"][-1] == 1 else 1)
    return count(moved) * size / run * max(math.ceil(run / 32), 1) * 32.0


def is_product(step: Step) -> bool:
    """Whether the operator multiplies matrices, or is otherwise a library's own kernel that nothing is fused into."""
    name = name_of(step)
    return name in PRODUCTS | _SORTS | _SCATTERS or _handler(name) in (convolution, attention)


def is_rows(step: Step) -> bool:
    """Whether the operator reduces rows."""
    return _handler(name_of(step)) in (_norm, _rows, _reduction, _two_passes)


def allocates_only(step: Step) -> bool:
    """Whether the operator has no kernel."""
    return name_of(step) in _NOTHING


def flops(step: Step) -> float:
    """Operations of the products of an operator."""
    return sum(kernel.product.flops for kernel in operator_kernels(step, {}) if kernel.product)
