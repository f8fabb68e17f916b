"""What a source would take on an H100 at a variant's size: recorded there without memory, compiled, counted, modelled.

Two calls are recorded and the second is counted, as in a run that is warm: what a submission keeps of the weights is
there already. Where a kernel is autotuned, each of its first configurations is estimated and the fastest taken.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, JsonValue

from ..core import derive_seed, digest_bytes
from .answers import Launched, Recording, Resources, SessionAnswer, Untrusted
from .batches import Batch
from .checking import record, unknown_kernels
from .extract import Kernels
from .known import Prelude, find_preludes
from .model import H100, Device, Work, crude_us, interval_us, occupancy, perturbed_times, program_times, whole_time
from .model import Launched as Known
from .model import work as total_work
from .model.operators import operator_kernels
from .problem import KernelProblem, Variant
from .report import FailureClass, Launch
from .requests import Rejection, Requests, unless_failed
from .submission import importable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIGURATIONS = 8
"""Of an autotuned kernel, how many are tried."""


class Recorded(Untrusted):
    """Two calls at a size; the second is the warm one."""

    session: SessionAnswer
    values: dict[str, str]
    """The bytes of each constant, in hexadecimal, by the number of its storage."""

    @property
    def call(self) -> Recording:
        """The warm call."""
        return self.session.calls[-1]

    def constant_arrays(self) -> dict[int, "NDArray[np.uint8]"]:
        """The constants as bytes."""
        import numpy as np

        return {int(n): np.frombuffer(bytes.fromhex(text), np.uint8) for n, text in self.values.items()}


@dataclass(frozen=True)
class Estimate:
    """What the model says of one warm call."""

    recorded: Recorded
    launches: Sequence[Launch]
    time_us: float
    interval_us: tuple[float, float]
    crude_us: float
    perturbed_us: Sequence[float]
    work: Work
    products: Mapping[str, set[str]]
    """The precisions that the products of each kernel and torch operator are in."""
    operations: float
    """Of kernels, beside `tl.dot`: a product may be written out in them."""
    configs: Mapping[str, int] = field(default_factory=dict[str, int])
    """The configurations that autotuned kernels take, where one isn't the first."""

    @property
    def recording(self) -> Recording:
        """The call that was estimated."""
        return self.recorded.call


async def estimate(
    requests: Requests, problem: KernelProblem, source: str, kernels: Kernels, variant: Variant
) -> Estimate:
    """Estimate a source at a variant's size.

    Raises:
        Rejection: it fails there, doesn't compile or can't be counted.
    """
    first = await _recorded(requests, problem, source, variant, {})
    tried = min(max(first.session.choices.values(), default=1), CONFIGURATIONS)
    best: Estimate | None = None
    refused: Rejection | None = None
    for index in range(tried):
        configs = {name: min(index, count - 1) for name, count in first.session.choices.items()} if index else {}
        try:
            recorded = await _recorded(requests, problem, source, variant, configs) if index else first
            found = await _estimated(requests, kernels, recorded, configs)
        except Rejection as rejection:  # a configuration that doesn't fit is passed over, as an autotuner does
            refused = refused or rejection
            continue
        if best is None or found.time_us < best.time_us:
            best = found
    if best is None:
        assert refused is not None
        raise refused
    return best


async def recorded_call(
    requests: Requests,
    problem: KernelProblem,
    source: str,
    variant: Variant,
    configs: Mapping[str, int],
) -> Recording:
    """The warm call of a source at a variant's size.

    Raises:
        Rejection: it fails there.
    """
    return (await _recorded(requests, problem, source, variant, configs)).call


async def _recorded(
    requests: Requests, problem: KernelProblem, source: str, variant: Variant, configs: Mapping[str, int]
) -> Recorded:
    specs: dict[str, JsonValue] = {n: spec.model_dump(mode="json") for n, spec in problem.specs(variant).items()}
    plan = problem.arguments(variant)
    key: JsonValue = [source_digest(source), problem.name, specs, plan, dict(configs)]

    async def work() -> BaseModel:
        values = await asyncio.to_thread(_weights, problem, variant)
        calls: list[tuple[dict[str, JsonValue], JsonValue, int | None]] = [(specs, plan, None)] * 2
        told = await record(
            requests.ask, source, calls, values, modules=importable(problem), lazy=True, configs=configs
        )
        if not isinstance(told, tuple):
            return told
        session, constants = told
        values = {name.removeprefix("constant/"): held.tobytes().hex() for name, held in constants.items()}
        return Recorded(session=session, values=values)

    return unless_failed(await requests.once("trace", key, Recorded, work))


def source_digest(source: str) -> str:
    """The digest of a source's text."""
    return digest_bytes(source.encode(errors="surrogatepass"))


def _weights(problem: KernelProblem, variant: Variant) -> dict[str, Any]:
    """Values of the weights, alike in both calls, so that what is kept of them is found again."""
    smallest = next(iter(problem.smaller(variant)), variant)
    specs = problem.specs(variant)
    drawn = problem.inputs(smallest, derive_seed(0, "weights"))
    kept = {name: drawn[name] for name in problem.weights(variant) if drawn[name].shape == specs[name].shape}
    return {f"{call}/{name}": array for call in range(2) for name, array in kept.items()}


async def _estimated(requests: Requests, kernels: Kernels, recorded: Recorded, configs: Mapping[str, int]) -> Estimate:
    call = recorded.call
    unknown = unknown_kernels({launch.kernel for launch in call.launches}, kernels)
    if unknown is not None:
        unless_failed(unknown)
    places = {place: step for place, step in enumerate(call.steps) if isinstance(step, Launched)}
    preludes = find_preludes(recorded.session, kernels)
    batch = requests.batch()
    joined = await asyncio.gather(
        *(_joined(requests, batch, kernels, recorded, step, preludes.get(place)) for place, step in places.items())
    )
    known = dict(zip(places, joined, strict=True))
    steps = [step.model_dump(mode="json") for step in call.steps]
    flags = dict(call.flags)

    def times(device: Device) -> list[Launch]:
        return program_times(steps, known, flags, device)

    def time(device: Device) -> float:
        return whole_time(times(device))

    try:
        return Estimate(
            recorded=recorded,
            launches=times(H100),
            time_us=time(H100),
            interval_us=interval_us(time, H100),
            crude_us=crude_us(steps, known, flags, H100),
            perturbed_us=perturbed_times(time, H100),
            work=total_work(steps, known),
            products=_products(places, known, call),
            operations=sum(math.prod(places[at].grid) * each.counts["operations"] for at, each in known.items()),
            configs={name: index for name, index in configs.items() if index},
        )
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        # The operators' arguments are the submission's own words.
        raise Rejection(FailureClass.NOT_COUNTABLE, f"its operators can't be modelled: {error}"[:400]) from None


def _products(places: Mapping[int, Launched], known: Mapping[int, Known], call: Recording) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for step in call.operators:
        kinds = {each.product.kind for each in operator_kernels(step.model_dump(), call.flags) if each.product}
        if kinds:
            found.setdefault(step.name, set()).update(kinds)
    for at, each in known.items():
        found.setdefault(places[at].kernel, set()).update(each.counts["dots"])
    return found


async def _joined(
    requests: Requests, batch: Batch, kernels: Kernels, recorded: Recorded, launch: Launched, prelude: Prelude | None
) -> Known:
    """A launch's compilation and counts; it is asked with storages numbered anew, so that equal launches are one."""
    module = kernels.modules[launch.kernel]
    numbers: dict[int, int] = {}
    described = _renumbered(launch.model_dump(mode="json"), numbers)
    sizes = dict(enumerate(recorded.session.sizes))
    given = {number: sizes.get(number, 0) for number in numbers}
    counted = described
    if prelude is not None:
        steps = [[_renumbered(step.model_dump(mode="json"), numbers), dict(flags)] for step, flags in prelude.steps]
        launched = {step.kernel for step, _ in prelude.steps if isinstance(step, Launched)}
        counted = described | {
            "prelude": {
                "steps": steps,
                "storages": [numbers[number] for number in prelude.storages],
                "constants": {str(numbers[int(n)]): v for n, v in recorded.values.items() if int(n) in numbers},
                "kernels": {name: kernels.modules[name] for name in sorted(launched)},
            }
        }
    counted = counted | {"sizes": [sizes.get(number, 0) for number in numbers]}
    resources, counts = await asyncio.gather(
        requests.compiled(module, described, batch), requests.counted(module, counted, batch)
    )
    _check_resources(launch.kernel, resources)
    found = counts.model_dump()
    own = {new: old for old, new in numbers.items()}
    for access in found["accesses"]:
        access["tensor"] = own.get(access["tensor"], access["tensor"])
    return Known(found, resources.model_dump(), given)


def _renumbered(value: Any, numbers: dict[int, int]) -> Any:
    """A step with its storages numbered in the order in which they come, by the numbers that some have already."""
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value)
        number = parts.get("t")
        if isinstance(number, int):
            return parts | {"t": numbers.setdefault(number, len(numbers))}
        return {key: _renumbered(part, numbers) for key, part in parts.items()}
    return [_renumbered(part, numbers) for part in cast("list[Any]", value)] if isinstance(value, list) else value


def _check_resources(kernel: str, resources: Resources) -> None:
    if resources.spills > H100.spill_limit:
        raise Rejection(
            FailureClass.SPILLS,
            f"{kernel} spills {resources.spills} bytes a thread, at most {H100.spill_limit} are allowed",
        )
    if occupancy(resources.model_dump(), H100) == 0:
        raise Rejection(
            FailureClass.REGISTERS,
            f"{kernel} needs {resources.registers} registers in {32 * resources.warps} threads: no block fits",
        )
