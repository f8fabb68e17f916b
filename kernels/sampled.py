"""Whether a source is right at the variant's own size: a drawn part of the output, by the programs that compute it.

The steps are those whose time was estimated. Where the programs behind a part can't be told from the rest (kernels
that walk over all tiles, torch operators on whole tensors), nothing is learned, and that is said.
"""

import asyncio
from typing import Any

import numpy as np
from pydantic import JsonValue

from ..core import derive_seed
from .answers import Failure, Untrusted, read_answer, unreadable
from .estimating import Recorded
from .extract import Kernels
from .grade import failed, measure_sample
from .problem import KernelProblem, Sample, Sampled, Variant
from .requests import Requests
from .threads import ONE_THREAD

WIDTHS = (128, 256)
"""Of the part: a tile of the last kernels must lie within it."""


class Looked(Untrusted):
    """What came of looking at a part of the output."""

    case: dict[str, JsonValue] | None
    """As `grade.measure` gives it; none where no part could be had."""
    why: str | None
    """Why there is none."""


class _Block(Untrusted):
    pass


class _Unsampled(Untrusted):
    unsampled: str


async def look(
    requests: Requests, problem: KernelProblem, kernels: Kernels, variant: Variant, recorded: Recorded, seed: int
) -> Looked | Failure:
    """Compute a drawn part of the output at the variant's size, and grade it."""
    if not isinstance(problem, Sampled):
        return Looked(case=None, why=f"{problem.name} can't be looked at in part")
    why = "there is no part"
    for width in WIDTHS:
        with ONE_THREAD:
            part = await asyncio.to_thread(problem.sample, variant, derive_seed(seed, "part", width), width)
        if part is None:
            break
        request, blob = await asyncio.to_thread(_request, problem, kernels, variant, recorded, part)
        answer, outputs = await requests.ask_patiently(request, blob)
        if "unsampled" in answer:
            told = read_answer(_Unsampled, answer)
            if isinstance(told, Failure):
                return told
            why = told.unsampled
            continue
        done = read_answer(_Block, answer)
        if isinstance(done, Failure):
            return Looked(case=failed(variant, *done.error), why=None)
        from safetensors.numpy import load

        try:
            block: Any = load(outputs).get("block")
        except Exception as error:  # a type that NumPy doesn't have
            return unreadable(f"{type(error).__name__}: {error}")
        return Looked(case=await asyncio.to_thread(measure_sample, problem, variant, part, block), why=None)
    return Looked(case=None, why=why)


def _request(
    problem: KernelProblem, kernels: Kernels, variant: Variant, recorded: Recorded, part: Sample
) -> tuple[dict[str, Any], bytes]:
    from safetensors.numpy import save

    session = recorded.session
    weights = problem.weights(variant)
    names = {step.kernel for call in session.calls for step in call.launches}
    last = len(session.calls) - 1
    fills: list[list[tuple[str, list[tuple[int, int]]]]] = [[] for _ in session.calls]
    values: dict[str, np.ndarray[Any, Any]] = {}
    for name, block, array in part.fills:
        for call in range(last + 1):
            if call == last or name in weights:
                values[f"{call}/{len(fills[call])}"] = array
                fills[call].append((name, block))
    values |= {f"constant/{number}": held for number, held in recorded.constant_arrays().items()}
    request: dict[str, Any] = {
        "kind": "part",
        "kernels": {name: kernels.modules[name] for name in sorted(names & set(kernels.modules))},
        "fills": fills,
        "block": part.block,
        **session.model_dump(mode="json", include={"sizes", "constants", "prologue", "calls"}),
    }
    return request, save(values)
