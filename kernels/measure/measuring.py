"""Measure a submission on a device.

    report = await measure(source, problem.benchmark(), problem, default_sandbox())
    report.time()       # {"basis": "measured", "device": "NVIDIA H100 80GB HBM3", "geomean_us": ..., ...}

Up to four processes, each its own, one after another: one that runs nothing, for what a call takes by itself; the
baseline; the submission; and, where its time is suspicious, the submission again. docs/measured.md says what this can
show and what it can't.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

from ...core import ConfigurationError, PawlError, derive_seed
from ...safety.sandbox import Limits, Sandbox
from ..problem import KernelProblem, TensorSpec, Variant
from ..report import FailureClass, Status
from ..submission import output_buffers
from . import rules
from .accelerator import Accelerator, open_accelerator
from .judging import Samples, Standard, judge, repeated, suspicious
from .layout import Layout, damage, lay_out
from .report import Measured, MeasureReport, Reason, Refusal
from .schedule import Call, Counts, Purpose, draw_schedule
from .session import Refused, Taken, TimedProcess
from .statistics import geometric_mean, summarise, without_overhead

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..problem import Arrays

    Bytes = NDArray[np.uint8]
    Grade: TypeAlias = Callable[[KernelProblem, Variant, "Arrays", NDArray[np.generic]], "Reason | None"]

T = TypeVar("T")


class BaselineFailed(PawlError):
    """What a submission is compared with can't be timed, so that nothing can be said of the submission."""


class MeasureSettings(BaseModel):
    """How long and how much."""

    model_config = ConfigDict(frozen=True)

    counts: Counts = Counts()
    tolerances: rules.Tolerances = rules.Tolerances()
    fresh_weights: bool = True
    """Whether a layer's parameters change with every call, as the public leaderboard's do, so that packing them counts;
    else they are drawn once a shape, as in an estimate."""
    call_seconds: float = 120.0
    """Of one call; the first one of a shape compiles."""
    process_seconds: float = 7200.0
    memory: int = 32 << 30
    """Host memory of a process."""


async def measure(
    source: str,
    variants: Sequence[Variant],
    problem: KernelProblem,
    sandbox: Sandbox,
    *,
    accelerator: Accelerator | None = None,
    standards: Sequence[Standard] | None = None,
    settings: MeasureSettings | None = None,
    modules: Mapping[str, str] | None = None,
    grade: "Grade | None" = None,
    seed: int | None = None,
) -> MeasureReport:
    """Time a submission on each variant.

    Args:
        source: a Python module that defines `custom_kernel(data)`.
        variants: what to time it on.
        problem: theirs.
        sandbox: where its processes run.
        accelerator: the device; the first CUDA device if none.
        standards: of `take_standards` for the same variants and device, shortly before; taken here, against the
            problem's seed kernel, if none.
        settings: how long and how much.
        modules: text by name of what the source may import beside its own, such as a leaderboard's `task`.
        grade: why an output is wrong, or none; by the fp64 reference if none. The reference runs on the CPU, and takes
            most of a measurement's time.
        seed: of inputs, order and number of calls; drawn if none, as it must be for a submission that isn't trusted.

    Returns:
        A report; a submission that crashes or cheats is one that was refused.

    Raises:
        NoDevice: there is no device.
        SandboxUnavailable: a process doesn't start.
        BaselineFailed: the baseline can't be timed.
        ConfigurationError: no variant, one of another problem, or standards of others.
    """
    device = accelerator or open_accelerator()
    seed = secrets.randbits(62) if seed is None else seed
    if standards is None:
        standards = await take_standards(
            variants, problem, sandbox, accelerator=device, settings=settings, modules=modules, seed=seed
        )
    if [(standard.variant, standard.device) for standard in standards] != [(each, device.name) for each in variants]:
        raise ConfigurationError("Found standards of other variants or another device: take them for these.")
    again: list[Measured] = []
    with _Measurement(problem, variants, sandbox, device, settings, modules, grade) as run:
        limits = run.settings.tolerances
        shapes, reasons = await run.judged(source, derive_seed(seed, "first"), standards)
        if not reasons and any(suspicious(shape, limits) for shape in shapes):
            again, reasons = await run.judged(source, derive_seed(seed, "second"), standards)
            if not reasons:
                found = (repeated(*pair, limits) for pair in zip(shapes, again, strict=True))
                reasons = [reason for reason in found if reason is not None]
    return MeasureReport(
        status=Status.REJECTED if reasons else Status.ACCEPTED,
        reasons=tuple(reasons),
        device=device.name,
        seed=seed,
        shapes=tuple(shapes),
        geomean_us=None if reasons else geometric_mean([shape.median_us for shape in shapes]),
        rerun_us=geometric_mean([shape.median_us for shape in again]) if again and not reasons else None,
    )


async def take_standards(
    variants: Sequence[Variant],
    problem: KernelProblem,
    sandbox: Sandbox,
    *,
    accelerator: Accelerator | None = None,
    baseline: str | None = None,
    settings: MeasureSettings | None = None,
    modules: Mapping[str, str] | None = None,
    seed: int | None = None,
) -> list[Standard]:
    """Time calls that run nothing, then the baseline, each in a process of its own; before any submission.

    Args:
        variants: what to time on.
        problem: theirs.
        sandbox: where the processes run.
        accelerator: the device; the first CUDA device if none.
        baseline: the module that submissions are compared with; the problem's seed kernel if none.
        settings: how long and how much.
        modules: text by name of what the baseline may import beside its own.
        seed: of inputs, order and number of calls; drawn if none.

    Raises:
        NoDevice: there is no device.
        SandboxUnavailable: a process doesn't start.
        BaselineFailed: the baseline can't be timed.
        ConfigurationError: no variant, or one of another problem.
    """
    device = accelerator or open_accelerator()
    seed = secrets.randbits(62) if seed is None else seed
    with _Measurement(problem, variants, sandbox, device, settings, modules, None) as run:
        return await run.standards(baseline or problem.seed_source(), seed)


def grade_output(
    problem: KernelProblem, variant: Variant, inputs: "Arrays", output: "NDArray[np.generic]"
) -> Reason | None:
    """Why an output is wrong by the fp64 reference, or none."""
    from ..grade import measure as compare
    from ..grade import verdict

    found = verdict(compare(problem, variant, inputs, output), problem.tolerance(variant.precision))
    return None if found is None else Reason(code=found[0], detail=found[1])


class _Measurement:
    """Runs processes on one device, one after another."""

    def __init__(
        self,
        problem: KernelProblem,
        variants: Sequence[Variant],
        sandbox: Sandbox,
        device: Accelerator,
        settings: MeasureSettings | None,
        modules: Mapping[str, str] | None,
        grade: "Grade | None",
    ) -> None:
        if not variants or any(variant.problem != problem.name for variant in variants):
            raise ConfigurationError(f"Found no variant, or one of another problem: expected some of {problem.name}.")
        self.settings = settings or MeasureSettings()
        self._problem = problem
        self._variants = variants
        self._sandbox = sandbox
        self._device = device
        self._modules = modules or {}
        self._grade = grade or grade_output
        self._kept: dict[int, Arrays] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pawl-measure")

    def __enter__(self) -> "_Measurement":
        return self

    def __exit__(self, *ended: object) -> None:
        self._thread.shutdown(wait=False)

    async def standards(self, baseline: str, seed: int) -> list[Standard]:
        """Time calls that run nothing, then the baseline."""
        peak = rules.peak_of(self._device.name)
        try:
            empty = await self._process(None, derive_seed(seed, "empty"))
            overhead = [summarise(samples.windows) for samples in empty]
            compared = await self._process(baseline, derive_seed(seed, "baseline"))
            return [
                Standard(
                    variant=variant,
                    device=self._device.name,
                    empty=nothing,
                    baseline=without_overhead(summarise(samples.windows), nothing),
                    floor_us=rules.floor_us(self._problem.flops(variant), self._problem.least_bytes(variant), peak),
                )
                for variant, nothing, samples in zip(self._variants, overhead, compared, strict=True)
            ]
        except (Refused, ValueError) as error:
            raise BaselineFailed(
                f"The baseline can't be timed on {self._device.name}: {error}. Expected a module that runs on every "
                "variant, and at least six timed calls of it."
            ) from error

    async def judged(
        self, source: str, seed: int, standards: Sequence[Standard]
    ) -> tuple[list[Measured], list[Reason]]:
        """Time the submission in a process of its own; the shapes that have a time, and why it is refused, if it is."""
        try:
            samples = await self._process(source, seed, graded=True)
        except Refused as refused:
            return [], [refused.reason]
        found = [judge(*pair, self.settings.tolerances) for pair in zip(samples, standards, strict=True)]
        reasons = [reason for _, given in found for reason in given]
        return [measured for measured, _ in found if measured is not None], reasons

    async def _process(self, source: str | None, seed: int, *, graded: bool = False) -> list[Samples]:
        settings = self.settings
        counts = settings.counts if graded else replace(settings.counts, profiled=0)
        limits = Limits(
            wall_seconds=settings.process_seconds,
            cpu_seconds=int(settings.process_seconds) * 4,
            memory_bytes=0,  # a CUDA context reserves more addresses than any machine has memory
            total_memory_bytes=settings.memory,
            file_bytes=1 << 30,
            scratch_bytes=2 << 30,
            processes=512,
        )
        samples = [Samples() for _ in self._variants]
        layouts: dict[int, Layout] = {}
        async with TimedProcess(
            self._sandbox, self._device, call_seconds=settings.call_seconds, limits=limits
        ) as process:
            if source is not None:
                await self._aside(process.load, source, self._modules)
            slots: dict[int, int] = {}
            for call in draw_schedule(seed, len(self._variants), counts):
                if not call.again:
                    layouts[call.shape], slots[call.shape] = self._layout(call), call.number
                where = (layouts[call.shape], slots[call.shape])
                await self._aside(self._call, process, call, *where, samples[call.shape], source is None, graded)
        return samples

    async def _aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run what blocks in the one thread that uses the device."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _layout(self, call: Call) -> Layout:
        variant = self._variants[call.shape]
        return lay_out(self._problem.specs(variant), self._problem.output(variant), derive_seed(call.seed, "layout"))

    def _call(
        self,
        process: TimedProcess,
        call: Call,
        layout: Layout,
        slot: int,
        samples: Samples,
        empty: bool,
        graded: bool,
    ) -> None:
        variant, problem = self._variants[call.shape], self._problem
        inputs = self._inputs(call, graded)
        profile = call.purpose is Purpose.PROFILED
        taken = process.call(layout, inputs, problem.arguments(variant), slot=slot, empty=empty, profile=profile)
        told = taken.told
        try:
            if call.purpose is Purpose.TIMED:
                samples.windows.append(taken.window_us)
                samples.events.append(told.events_us)
                samples.clocks.append(self._device.clocks())
            if profile and (told.span_us is None or told.kernels is None):
                raise Refused(Refusal.UNREADABLE, "a profiled call came without its span and its launches")
            if profile and told.span_us is not None and told.kernels is not None:
                samples.spans.append(told.span_us)
                samples.kernels.append(told.kernels)
            if graded:
                self._check(variant, layout, inputs, taken, right=call.purpose is not Purpose.WARM_UP)
        except BaseException:
            taken.buffer.close()
            raise
        process.release(taken, slot)

    def _inputs(self, call: Call, graded: bool) -> "Arrays":
        """Fresh ones; the baseline's and the empty calls' only once a shape: what they hold moves no clock there."""
        variant = self._variants[call.shape]
        if graded and self.settings.fresh_weights:
            return self._problem.inputs(variant, call.seed)
        if call.shape not in self._kept:
            self._kept[call.shape] = self._problem.inputs(variant, call.seed)
        kept = self._kept[call.shape]
        if not graded:
            return kept
        weights = {name: kept[name] for name in self._problem.weights(variant)}
        return {**self._problem.inputs(variant, call.seed), **weights}

    def _check(self, variant: Variant, layout: Layout, inputs: "Arrays", taken: Taken, *, right: bool) -> None:
        """Refuse a wrong output, and whatever else the call did or still does to the buffer.

        The parent's copy is graded. What the buffer holds after that, a while later, must still be the same.
        """
        if right:
            reason = self._grade(self._problem, variant, inputs, as_array(taken.output, self._problem.output(variant)))
            if reason is not None:
                raise Refused(reason.code, reason.detail)
        after = taken.buffer.read(0, layout.bytes)
        place = layout.output
        changed = int((after[place.offset : place.offset + place.bytes] != taken.output).sum())
        if changed:
            detail = f"{changed} of {place.bytes} bytes of the output changed after the call had ended ({variant})"
            raise Refused(Refusal.LATE_WRITE, detail)
        broken = damage(layout, inputs, after, output_buffers(self._problem, variant))
        if broken is not None:
            code = FailureClass.INPUT_CHANGED if broken[0] else FailureClass.OUT_OF_BOUNDS
            raise Refused(code, f"{broken[1]} ({variant})")


def as_array(data: "Bytes", spec: TensorSpec) -> "NDArray[np.generic]":
    """An output's bytes as an array.

    Raises:
        ConfigurationError: NumPy doesn't know the type.
    """
    import numpy as np

    try:
        kind = np.dtype(spec.dtype)
    except TypeError as error:
        raise ConfigurationError(
            f"Found a problem whose output is {spec.dtype}: expected a type that NumPy has, to grade it."
        ) from error
    return data.view(kind).reshape(spec.shape)
