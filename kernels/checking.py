"""Whether a source computes what its problem asks for: recorded, done again on other values, graded in fp64.

The submission's process says which steps its calls take. Those steps are taken again in a process of ours, on values
that it never saw; what comes out is graded here. Further runs take them with the programs in order instead of
shuffled, which must give the same, and without one kernel each, which must not.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from ..core import derive_seed
from .answers import Again, Course, Failure, Launched, ReplayAnswer, SessionAnswer, Untrusted, read_answer, unreadable
from .extract import Kernels
from .grade import failed, measure
from .plan import Call, draw_values, plan_session
from .problem import KernelProblem, TensorSpec, Variant
from .report import FailureClass
from .submission import importable, output_buffers
from .threads import ONE_THREAD

if TYPE_CHECKING:
    from .problem import Arrays

Ask = Callable[[dict[str, JsonValue], bytes], Awaitable[tuple[dict[str, JsonValue], bytes]]]
"""Sends a request to a fresh process of the sandbox."""
SAME = 1e-3
"""How far, relative to the largest value, two outputs may lie apart and be the same: atomics add in any order."""


CONSTANT_BYTES = 64 << 10
"""Of values that come neither from the inputs nor from a step; the recorder stops there, but can be made not to."""


class Checked(Untrusted):
    """The calls that were graded."""

    cases: tuple[dict[str, JsonValue], ...]
    """As `grade.measure` and `grade.failed` give them."""
    courses: tuple[Course, ...]
    products: dict[str, tuple[str, ...]]
    """The precisions that the products of each kernel and torch operator were in."""


async def record(
    ask: Ask,
    source: str,
    calls: Sequence[tuple[dict[str, JsonValue], JsonValue, int | None]],
    values: Mapping[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"],
    *,
    modules: Mapping[str, str] | None = None,
    lazy: bool = False,
    configs: Mapping[str, int] | None = None,
) -> tuple[SessionAnswer, dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"]] | Failure:
    """Record a session of a source.

    Args:
        ask: reaches the sandbox.
        source: the submission.
        calls: for each call its inputs' sizes and types, how `data` is built, and whose tensors it gets.
        values: of the inputs, under `CALL/NAME`; zeros where there are none.
        modules: text by name of what the source may import beside the libraries.
        lazy: whether large tensors have no memory.
        configs: which configuration an autotuned kernel takes; the first where it isn't named.

    Returns:
        The session and its constants, under `constant/NUMBER`; or why there is none.
    """
    from safetensors.numpy import load, save

    blob = save(dict(values)) if values else b""
    for execute in (False, True):
        request: dict[str, JsonValue] = {
            "kind": "record",
            "source": source,
            "modules": dict(modules or {}),
            "lazy": lazy,
            "execute": execute,
            "configs": dict(configs or {}),
            "calls": [{"specs": specs, "arguments": plan, "again": again} for specs, plan, again in calls],
        }
        answer, constants = await ask(request, blob)
        if "again" in answer and isinstance(read_answer(Again, answer), Again):
            continue
        told = read_answer(SessionAnswer, answer)
        if isinstance(told, Failure):
            return told
        if len(told.calls) != len(calls):
            return unreadable(f"{len(told.calls)} calls, expected {len(calls)}")
        if not all(as_given(told, place, specs) for place, (specs, _, _) in enumerate(calls)):
            return unreadable("its calls have other inputs than they were given")
        if sum(told.sizes[number] if number < len(told.sizes) else 0 for number in told.constants) > CONSTANT_BYTES:
            words = f"it brings more than {CONSTANT_BYTES} bytes of values that come of no input and no operator"
            return Failure(error=(FailureClass.UNTRACED_DATA, words))
        try:
            held = load(constants) if constants else {}
        except Exception as error:  # bytes that the submission's process forged or broke
            return unreadable(f"{type(error).__name__}: {error}")
        return told, {f"constant/{number}": held[str(number)] for number in told.constants if str(number) in held}
    return unreadable("it asks for its kernels to be run, which they were")


async def check(
    ask: Ask,
    problem: KernelProblem,
    source: str,
    kernels: Kernels,
    cases: Sequence[Variant],
    seed: int,
    configs: Mapping[str, int] | None = None,
) -> Checked | Failure:
    """Grade a source on a session over cases."""
    from safetensors.numpy import load, save

    plan = plan_session(cases)
    seen = await asyncio.to_thread(_values, problem, plan, derive_seed(seed, "seen"))
    calls = [(_specs(problem, call.variant), problem.arguments(call.variant), call.again) for call in plan]
    recorded = await record(ask, source, calls, _named(seen), modules=importable(problem), configs=configs)
    if isinstance(recorded, Failure):
        return recorded
    session, constants = recorded
    refused = _refused(problem, plan, session, kernels)
    if refused is not None:
        return refused
    values = await asyncio.to_thread(_values, problem, plan, derive_seed(seed, "graded"))
    runs = _runs(session, derive_seed(seed, "order") % (1 << 31))
    request: dict[str, JsonValue] = {
        "kind": "replay",
        "kernels": {name: kernels.modules[name] for name in sorted(_launched(session))},
        "runs": runs,
        "rooms": [list[JsonValue](sorted(output_buffers(problem, call.variant))) for call in plan],
        **session.model_dump(mode="json", include={"sizes", "constants", "prologue", "calls"}),
    }
    answer, blob = await ask(request, save({**_named(values), **constants}))
    told = read_answer(ReplayAnswer, answer)
    if isinstance(told, Failure):
        return told
    try:
        outputs = load(blob) if blob else {}
    except Exception as error:  # a type that NumPy doesn't have
        return unreadable(f"{type(error).__name__}: {error}")
    graded = await asyncio.to_thread(_grade, problem, plan, values, told, outputs)
    wrong = next((index for index, case in enumerate(graded) if "error" in case), None)
    if wrong is None:
        odd = _odd(runs, told, outputs)
        if odd is not None:
            graded[0] = failed(plan[0].variant, *odd)
    products = told.runs[0].products if told.runs else {}
    return Checked(cases=tuple(graded), courses=tuple(call.course for call in session.calls), products=products)


def as_given(session: SessionAnswer, place: int, specs: Mapping[str, JsonValue]) -> bool:
    """Whether a call's inputs have the types, sizes and layout that they were given, each with memory of its own.

    What an input is said to be is what its values are copied to, so another type or layout would be a conversion that
    nothing is charged for.
    """
    inputs = session.calls[place].inputs
    if set(inputs) != set(specs) or len({tensor.t for tensor in inputs.values()}) != len(inputs):
        return False
    for name, tensor in inputs.items():
        spec = TensorSpec.model_validate(specs[name], strict=False)
        strides = tuple(math.prod(max(size, 1) for size in spec.shape[axis + 1 :]) for axis in range(len(spec.shape)))
        if (tensor.dtype, tensor.offset, tensor.sizes, tensor.strides) != (spec.dtype, 0, spec.shape, strides):
            return False
        if tensor.t >= len(session.sizes) or session.sizes[tensor.t] > max(spec.bytes, 1):
            return False
    return True


def _specs(problem: KernelProblem, variant: Variant) -> dict[str, JsonValue]:
    return {name: spec.model_dump(mode="json") for name, spec in problem.specs(variant).items()}


def _values(problem: KernelProblem, plan: Sequence[Call], seed: int) -> "list[Arrays]":
    return [draw_values(problem, call, seed) for call in plan]


def _named(values: "Sequence[Arrays]") -> "Arrays":
    return {f"{index}/{name}": array for index, arrays in enumerate(values) for name, array in arrays.items()}


def _launched(session: SessionAnswer) -> set[str]:
    steps = [*session.prologue, *(step for call in session.calls for step in call.steps)]
    return {step.kernel for step in steps if isinstance(step, Launched)}


def _refused(problem: KernelProblem, plan: Sequence[Call], session: SessionAnswer, kernels: Kernels) -> Failure | None:
    """What of a recording can be told to be wrong before it is done again."""
    unknown = unknown_kernels(_launched(session), kernels)
    if unknown is not None:
        return unknown
    for call, made in zip(plan, session.calls, strict=True):
        expected = problem.output(call.variant)
        if made.output.dtype != expected.dtype or made.output.sizes != expected.shape:
            return Failure(
                error=(
                    FailureClass.BAD_OUTPUT,
                    f"it returns {made.output.dtype} {list(made.output.sizes)}, expected {expected.dtype} "
                    f"{list(expected.shape)} ({call.variant})",
                )
            )
        rooms = output_buffers(problem, call.variant)
        if made.output.t in {tensor.t for name, tensor in made.inputs.items() if name not in rooms}:
            return Failure(error=(FailureClass.BAD_OUTPUT, "it returns memory of an input"))
        if any(stride == 0 and size > 1 for size, stride in zip(made.output.sizes, made.output.strides, strict=True)):
            return Failure(error=(FailureClass.BAD_OUTPUT, "it returns a tensor whose elements share memory"))
    return None


def unknown_kernels(launched: set[str], kernels: Kernels) -> Failure | None:
    """Why kernels that were launched can't be run here, or none."""
    refused = sorted(launched & set(kernels.refused))
    if refused:
        return Failure(error=(FailureClass.UNSUPPORTED_KERNEL, f"kernel {kernels.refused[refused[0]]}"[:800]))
    unknown = sorted(launched - set(kernels.modules))
    if unknown:
        words = f"kernels {unknown} are no plain @triton.jit functions of the module"
        return Failure(error=(FailureClass.NO_TRITON_KERNEL, words[:800]))
    return None


def _runs(session: SessionAnswer, seed: int) -> list[JsonValue]:
    """All calls with shuffled programs; the first in order; and the first that uses a kernel without that kernel."""
    runs: list[JsonValue] = [
        {"calls": len(session.calls), "shuffle": seed, "without": None},
        {"calls": 1, "shuffle": None, "without": None},
    ]
    seen: set[str] = set()
    for index, call in enumerate(session.calls):
        for name in sorted({launch.kernel for launch in call.launches} - seen):
            seen.add(name)
            runs.append({"calls": index + 1, "shuffle": None, "without": name})
    return runs


def _grade(
    problem: KernelProblem,
    plan: Sequence[Call],
    values: "Sequence[Arrays]",
    told: ReplayAnswer,
    outputs: "Arrays",
) -> list[dict[str, JsonValue]]:
    graded: list[dict[str, JsonValue]] = []
    with ONE_THREAD:
        for index, (call, given) in enumerate(zip(plan, values, strict=True)):
            answer = told.runs[0].calls[index] if told.runs and index < len(told.runs[0].calls) else None
            if answer is not None and answer.error is not None:
                graded.append(failed(call.variant, *answer.error))
            else:
                graded.append(measure(problem, call.variant, given, outputs.get(f"0/{index}")))
    return graded


def _odd(runs: list[JsonValue], told: ReplayAnswer, outputs: "Arrays") -> tuple[FailureClass, str] | None:
    """Whether the order of the programs matters, or a kernel doesn't."""
    for number, run in enumerate(runs[1:], 1):
        assert isinstance(run, dict)
        last = int(str(run["calls"])) - 1
        whole, found = outputs.get(f"0/{last}"), outputs.get(f"{number}/{last}")
        without = run["without"]
        if found is None or whole is None or number >= len(told.runs):
            continue  # without the kernel it fails, as it should
        distance = np.abs(found.astype(np.float64) - whole.astype(np.float64))
        apart = ~(distance <= SAME * np.abs(whole).max(initial=1e-30))  # what isn't a number is apart too
        if without is None and apart.any():
            return FailureClass.RACE, f"with its programs in another order, {int(apart.sum())} elements differ"
        if without is not None and not apart.any():
            return FailureClass.DECOY, f"without the launches of {without} the output is the same"
    return None
