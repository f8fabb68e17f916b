"""The verifier: is this kernel right, does it fit an H100, and how long would it take there.

    verifier = Verifier(default_sandbox(), home.verifications)
    report = await verifier.verify(source, variant)
    await verifier.close()

The submission's own code runs in the sandbox alone, sees inputs and returns bytes, which are graded here. What is
compiled and counted are its `@triton.jit` functions, in processes that execute nothing else of it. Every step is
cached by what it depends on: correctness by the source but for what the interpreter ignores, a compilation by the
kernel, its types and options, a count by the kernel and its launch.

That a kernel is right is measured where it can't reach. Its time rests on what its own process tells of its launches at
the variant's size, held against what the runs that were checked did: the same kernels, in the same order, on the same
types, with the same constexprs that are words, and only operators that those runs used. Open is the rest: sizes are
told, so a submission may do less at a size that isn't checked through the same kernels, give them smaller tensors, or
tell of launches that it doesn't make; so may a `@triton.jit` function that attacks the interpreter while it is counted.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, JsonValue

from ..core import derive_seed, digest_bytes, digest_json
from ..safety.sandbox import Sandbox
from ..safety.telemetry import names, span
from .answers import (
    CasesAnswer,
    CompileAnswer,
    CountAnswer,
    Course,
    Failure,
    Trace,
    TraceAnswer,
    Untrusted,
    read_answer,
    unreadable,
)
from .cache import JsonCache
from .extract import extract_kernels, interpreted_source
from .launches import compile_job
from .model.device import H100, perturbed
from .model.estimate import PERTURBATIONS, crude_us, estimate_launch, estimate_operator, occupancy
from .problem import KernelProblem, Precision, Variant
from .problems import PROBLEMS, find_problem
from .report import FailureClass, Launch, Report, Status
from .warm import ChildLimits, KernelProcess, Mode

VERSION = "3"
"""Part of every cache's key; raise it with any change that moves a figure or an outcome."""

REPORT_BYTES = 4 << 20
"""What an answer may have beside the outputs of the cases."""

Json = dict[str, Any]
T = TypeVar("T", bound=BaseModel)


class ShapesReport(BaseModel):
    """One source over several variants."""

    model_config = ConfigDict(frozen=True)

    reports: list[Report]
    geomean_us: float | None
    """Geometric mean of the estimated times; none if the source was rejected on any variant."""


class Rejection(Exception):
    """Ends a verification early; caught in `verify`."""

    def __init__(self, failure: FailureClass, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure


class Checked(Untrusted):
    """The runs whose outputs were checked."""

    cases: tuple[dict[str, JsonValue], ...]
    """As `grade.measure` and `grade.failed` give them."""
    courses: tuple[Course, ...]


class Verifier:
    """Verifies sources; safe to call many times at once from one event loop."""

    def __init__(
        self,
        sandbox: Sandbox,
        cache: Path,
        shared_cache: Path | None = None,
        workers: int = 2,
        limits: ChildLimits | None = None,
    ) -> None:
        """Open a verifier; processes start with the first verification that isn't cached.

        Args:
            sandbox: where everything of a submission runs.
            cache: folder of answers, made if need be.
            shared_cache: a second folder of answers, read only.
            workers: requests at work at once.
            limits: what one request may take.
        """
        limits = limits or ChildLimits()
        self._cache = JsonCache(cache, shared_cache)
        self._processes = {mode: KernelProcess(sandbox, mode, limits, workers, _answer_bytes()) for mode in Mode}
        self._slots = asyncio.Semaphore(workers)
        self._pending: dict[str, asyncio.Future[JsonValue]] = {}

    async def verify(self, source: str, variant: Variant) -> Report:
        """Verify a source for one variant; the same question is a look-up the second time.

        Raises:
            NotFound: the variant's problem is unknown.
            SandboxUnavailable: the processes don't start.
        """
        problem = find_problem(variant.problem)
        key: JsonValue = [digest_bytes(source.encode(errors="surrogatepass")), variant.model_dump(mode="json")]

        async def work() -> JsonValue:
            return (await self._verify(problem, source, variant)).model_dump(mode="json")

        with span("verification", {names.TASK: variant.problem}) as current:
            report = Report.model_validate(await self._once("report", key, work))
            current.set(names.ACCEPTED, report.accepted)
        return report

    async def estimate_shapes(self, source: str, variants: Sequence[Variant]) -> ShapesReport:
        """Verify a source for several variants, and take the geometric mean of their times."""
        reports = list(await asyncio.gather(*(self.verify(source, variant) for variant in variants)))
        times = [report.time_us for report in reports if report.accepted and report.time_us is not None]
        whole = len(times) == len(reports) > 0
        mean = math.exp(math.fsum(math.log(time) for time in times) / len(times)) if whole else None
        return ShapesReport(reports=reports, geomean_us=mean)

    @property
    def cpu_seconds(self) -> float:
        """CPU time that requests have taken so far; look-ups take none."""
        return math.fsum(process.cpu_seconds for process in self._processes.values())

    async def close(self) -> None:
        """End the processes."""
        await asyncio.gather(*(process.close() for process in self._processes.values()))

    async def _verify(self, problem: KernelProblem, source: str, variant: Variant) -> Report:
        correctness: list[dict[str, JsonValue]] = []
        floor = 1e6 * max(problem.flops(variant) / H100.half_flops, problem.least_bytes(variant) / 3.35e12)
        try:
            kernels = _kernels(source)
            checked = await self._checked(problem, interpreted_source(source))
            correctness = list(checked.cases)
            _check_correctness(problem, correctness, variant.precision)
            return await self._estimate(problem, source, kernels, variant, floor, checked)
        except Rejection as rejection:
            return Report(
                status=Status.REJECTED,
                failure_class=rejection.failure,
                reasons=[f"{rejection.failure}: {rejection}"],
                correctness=correctness,
                floor_us=floor,
                device=H100.name,
            )

    async def _checked(self, problem: KernelProblem, source: str) -> Checked:
        key: JsonValue = [problem.name, digest_bytes(source.encode())]

        async def work() -> JsonValue:
            return (await self._run_cases(problem, source)).model_dump(mode="json")

        return _unless_failed(read_answer(Checked, await self._once("correctness", key, work)))

    async def _run_cases(self, problem: KernelProblem, source: str) -> Checked | Failure:
        from safetensors.numpy import load, save

        from .grade import failed, measure

        digest = digest_bytes(source.encode())
        seed = int(digest[:15], 16)
        cases = problem.correctness(derive_seed(seed, "sizes"))
        inputs = [problem.inputs(v, derive_seed(seed, "inputs", i)) for i, v in enumerate(cases)]
        blob = save({f"{i}/{name}": array for i, arrays in enumerate(inputs) for name, array in arrays.items()})
        plans: JsonValue = [problem.arguments(variant) for variant in cases]
        request: dict[str, JsonValue] = {"kind": "candidate", "source": source, "cases": plans, "traces": []}
        answer, outputs = await self._ask(Mode.INTERPRET, request, blob)
        told = read_answer(CasesAnswer, answer)
        if isinstance(told, Failure):
            return told
        if not len(told.cases) == len(told.courses) == len(cases):
            return unreadable(f"{len(told.cases)} cases, expected {len(cases)}")
        try:
            arrays = load(outputs) if outputs else {}
            found = [
                failed(variant, *case.error)
                if isinstance(case, Failure)
                else measure(problem, variant, given, arrays.get(str(index)))
                for index, (variant, given, case) in enumerate(zip(cases, inputs, told.cases, strict=True))
            ]
        except Exception as error:  # outputs that the submission's process forged or broke
            return unreadable(f"{type(error).__name__}: {error}")
        return Checked(cases=tuple(found), courses=told.courses)

    async def _estimate(
        self,
        problem: KernelProblem,
        source: str,
        kernels: dict[str, str],
        variant: Variant,
        floor: float,
        checked: Checked,
    ) -> Report:
        trace = await self._trace(problem, source, variant)
        launches = cast("list[Json]", trace.model_dump(mode="json")["launches"])
        unknown = sorted({launch["kernel"] for launch in launches} - set(kernels))
        if unknown or not launches:
            seen = f"kernels {unknown} are no plain @triton.jit functions of the module" if unknown else "none launched"
            raise Rejection(FailureClass.NO_TRITON_KERNEL, f"expected launches of @triton.jit functions; {seen}")
        _check_course(trace.course, checked.courses)
        compiled = await asyncio.gather(*(self._compiled(kernels[launch["kernel"]], launch) for launch in launches))
        for launch, resources in zip(launches, compiled, strict=True):
            _check_resources(launch["kernel"], resources)
        counted = await asyncio.gather(*(self._counted(kernels[launch["kernel"]], launch) for launch in launches))
        sizes = [
            {a["tensor"]: a["bytes"] for a in launch["arguments"].values() if "tensor" in a} for launch in launches
        ]

        def times(device: Any) -> list[Launch]:
            estimated = [
                estimate_launch(launch["kernel"], launch["grid"], counts, resources, size, device)
                for launch, counts, resources, size in zip(launches, counted, compiled, sizes, strict=True)
            ]
            return estimated + [estimate_operator(operator.model_dump(), device) for operator in trace.operators]

        parts = times(H100)
        whole = math.fsum(part.time_us for part in parts)
        if whole < floor:
            raise Rejection(
                FailureClass.IMPOSSIBLE,
                f"estimated at {whole:.0f} us, below the {floor:.0f} us that the problem's arithmetic or traffic takes",
            )
        grids = [math.prod(launch["grid"]) for launch in launches]
        return Report(
            status=Status.ACCEPTED,
            correctness=list(checked.cases),
            launches=parts,
            time_us=whole,
            crude_us=crude_us(list(zip(grids, counted, sizes, strict=True)), len(parts), H100),
            perturbed_us=[
                math.fsum(part.time_us for part in times(perturbed(H100, seed))) for seed in range(PERTURBATIONS)
            ],
            floor_us=floor,
            device=H100.name,
        )

    async def _trace(self, problem: KernelProblem, source: str, variant: Variant) -> Trace:
        specs = {name: spec.model_dump(mode="json") for name, spec in problem.specs(variant).items()}
        plan: Json = {"specs": specs, "arguments": problem.arguments(variant)}
        request: Json = {"kind": "candidate", "source": source, "cases": [], "traces": [plan]}

        async def work() -> JsonValue:
            told = read_answer(TraceAnswer, (await self._ask(Mode.INTERPRET, request))[0])
            return (told if isinstance(told, Failure) else told.traces[0]).model_dump(mode="json")

        return _unless_failed(read_answer(Trace, await self._once("trace", request, work)))

    async def _compiled(self, module: str, launch: Json) -> dict[str, int]:
        try:
            job = compile_job(module, launch)
        except (TypeError, ValueError) as error:
            raise Rejection(FailureClass.COMPILE_ERROR, f"{launch['kernel']}: {error}") from None
        return cast("dict[str, int]", await self._kernel("compile", CompileAnswer, module, job))

    async def _counted(self, module: str, launch: Json) -> Json:
        job = {part: value for part, value in launch.items() if part != "options"}
        return await self._kernel("count", CountAnswer, module, job)

    async def _kernel(self, kind: str, model: type[CompileAnswer | CountAnswer], module: str, job: Json) -> Json:
        mode = Mode.COMPILE if model is CompileAnswer else Mode.INTERPRET
        request: Json = {"kind": kind, "source": module, "jobs": [job]}

        async def work() -> JsonValue:
            return read_answer(model, (await self._ask(mode, request))[0]).model_dump(mode="json")

        told = _unless_failed(read_answer(model, await self._once(kind, request, work)), job["kernel"])
        return _unless_failed(told.answers[0], job["kernel"]).model_dump(mode="json")

    async def _ask(self, mode: Mode, request: Json, blob: bytes = b"") -> tuple[Json, bytes]:
        async with self._slots:
            return await self._processes[mode].ask(request, blob)

    async def _once(self, kind: str, key: JsonValue, work: Callable[[], Awaitable[JsonValue]]) -> JsonValue:
        """Look an answer up, wait for whoever is at it, or work it out."""
        key = [VERSION, key]
        found = self._cache.get(kind, key)
        if found is not None:
            return found
        name = f"{kind} {digest_json(key)}"
        while name in self._pending:
            try:
                return await asyncio.shield(self._pending[name])
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
        future = self._pending[name] = asyncio.get_running_loop().create_future()
        try:
            value = await work()
            if not _depends_on_load(value):
                self._cache.put(kind, key, value)
            future.set_result(value)
            return value
        finally:
            del self._pending[name]
            if not future.done():
                future.cancel()  # those who wait try for themselves


def _kernels(source: str) -> dict[str, str]:
    try:
        return extract_kernels(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Rejection(FailureClass.SYNTAX_ERROR, f"the source doesn't parse: {error}") from None


def _depends_on_load(value: JsonValue) -> bool:
    """Whether a busy machine may be the cause, so that the answer isn't kept."""
    if not isinstance(value, dict):
        return False
    error = value.get("error")
    return value.get("failure_class") == FailureClass.TIMEOUT or (
        isinstance(error, list) and error[:1] == [FailureClass.TIMEOUT.value]
    )


def _unless_failed(told: T | Failure, where: str = "") -> T:
    if isinstance(told, Failure):
        code, detail = told.error
        raise Rejection(code, f"{where}: {detail}" if where else detail)
    return told


def _answer_bytes() -> int:
    """The outputs of any problem's cases take less than all that a run of them moves; twice that, for fp64."""
    outputs = (math.fsum(map(each.least_bytes, each.correctness())) for each in PROBLEMS.values())
    return REPORT_BYTES + 2 * math.ceil(max(outputs))


def _check_course(traced: Course, checked: Sequence[Course]) -> None:
    """Refuse what runs at the variant's size as no checked run did.

    Which kernels run may depend on the size, and how often, but the order in which they first run must be that of a
    checked run. Operators may come and go with the mask and the strides: each must be of some checked run, and those
    that every checked run needed must be there.
    """
    if traced.steps not in [course.steps for course in checked]:
        runs = " or ".join(sorted({_order(course) for course in checked}))
        raise Rejection(
            FailureClass.UNCHECKED, f"it launches {_order(traced)}, where outputs were checked it launches {runs}"[:800]
        )
    used = [set(course.operators) for course in checked]
    strange = sorted(set(traced.operators) - set[str]().union(*used))
    missing = sorted(set[str].intersection(*used) - set(traced.operators))
    if strange or missing:
        raise Rejection(
            FailureClass.UNCHECKED,
            f"against the runs that were checked, operators {strange} are new, {missing} missing"[:800],
        )


def _order(course: Course) -> str:
    steps = (
        f"{step.kernel}({', '.join([*map(':'.join, step.types.items()), *map('='.join, step.words.items())])})"
        for step in course.steps
    )
    return ", ".join(steps) or "nothing"


def _check_correctness(problem: KernelProblem, cases: list[dict[str, JsonValue]], precision: Precision) -> None:
    from .grade import verdict

    for case in cases:
        failed = verdict(case, problem.tolerance(precision))
        if failed is not None:
            raise Rejection(*failed)


def _check_resources(kernel: str, resources: dict[str, int]) -> None:
    if resources["spills"] > H100.spill_limit:
        raise Rejection(
            FailureClass.SPILLS,
            f"{kernel} spills {resources['spills']} bytes a thread, at most {H100.spill_limit} are allowed",
        )
    if occupancy(resources, H100) == 0:
        raise Rejection(
            FailureClass.REGISTERS,
            f"{kernel} needs {resources['registers']} registers in {32 * resources['warps']} threads: no block fits",
        )
