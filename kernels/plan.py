"""Which calls of `custom_kernel` a source is checked with, and on which values.

One session calls it for every case; then again at the pointers of the first case with new values everywhere, normal
ones from here on; then at new pointers with the same weights; then with one element changed. An implementation may keep
what it packed of the weights while they are the same, and nothing else.

The values that a submission sees while it is recorded differ from those that its steps are graded on, in everything
but which of them are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..core import derive_seed
from .problem import Distribution, KernelProblem, Variant

if TYPE_CHECKING:
    from .problem import Arrays


OUTLIER = 300.0
"""The element that is changed becomes this: enough to be seen in the output, and not to be guessed from the others."""


@dataclass(frozen=True)
class Call:
    """One call of a session."""

    variant: Variant
    values: int
    """Which draw of the activations it gets."""
    weights: int
    """Which draw of the weights."""
    again: int | None = None
    """The call whose tensors it gets, with new values; none gives it tensors of its own."""
    touched: bool = False
    """Whether one element of the activations is another than in the draw."""


def plan_session(cases: Sequence[Variant]) -> list[Call]:
    """The calls that check a source on cases, the cheapest first."""
    count = len(cases)
    calls = [Call(variant, index, index) for index, variant in enumerate(cases)]
    # Among ordinary values: where the others of its row are tiny, how large an outlier is doesn't show in a norm.
    first = cases[0].model_copy(update={"distribution": Distribution.NORMAL})
    calls.append(Call(first, count, count, again=0))
    calls.append(Call(first, count + 1, count))
    calls.append(Call(first, count + 1, count, again=count + 1, touched=True))
    return calls


def draw_values(problem: KernelProblem, call: Call, seed: int) -> "Arrays":
    """The values of a call's inputs; equal seeds give equal values."""
    values = problem.inputs(call.variant, derive_seed(seed, "inputs", call.values))
    if call.weights != call.values:
        others = problem.inputs(call.variant, derive_seed(seed, "inputs", call.weights))
        values |= {name: others[name] for name in problem.weights(call.variant)}
    return _touched(problem, call, values, derive_seed(seed, "element", call.values)) if call.touched else values


def _touched(problem: KernelProblem, call: Call, values: "Arrays", seed: int) -> "Arrays":
    """The largest of the floating activations with one element changed by much."""
    kept = problem.weights(call.variant)
    floating = [name for name, array in values.items() if name not in kept and array.dtype.kind == "f"]
    if not floating:
        return values
    name = max(sorted(floating), key=lambda each: values[each].size)
    array = values[name].copy()
    place = int(np.random.Generator(np.random.Philox(seed)).integers(array.size))
    array.flat[place] = OUTLIER
    return values | {name: array}
