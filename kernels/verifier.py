"""The verifier: is this kernel right, does it fit an H100, and how long would it take there.

    verifier = Verifier(default_sandbox(), home.verifications)
    report = await verifier.verify(source, variant)
    await verifier.close()

The submission's own code runs in the sandbox alone, sees inputs and returns bytes, which are graded here. What is
compiled and counted are its `@triton.jit` functions, in processes that execute nothing else of it. Every step is
cached by what it depends on: correctness by the source but for what the interpreter ignores, a compilation by the
kernel, its types and options, a count by the kernel and its launch.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, JsonValue

from ..core import derive_seed, digest_bytes, digest_json
from ..safety.sandbox import Sandbox
from ..safety.telemetry import names, span
from .cache import JsonCache
from .device import H100, perturbed
from .estimate import PERTURBATIONS, crude_us, estimate_launch, estimate_operator, occupancy
from .extract import extract_kernels, interpreted_source
from .launches import compile_job
from .problem import KernelProblem, Precision, Variant
from .report import FailureClass, Launch, Report, Status
from .trimul import find_problem
from .warm import ChildLimits, KernelProcess, Mode

VERSION = "1"
"""Part of every cache's key; raise it with any change that moves a figure or an outcome."""

Json = dict[str, Any]


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
        self._processes = {mode: KernelProcess(sandbox, mode, limits, workers) for mode in Mode}
        self._slots = asyncio.Semaphore(workers)
        self._pending: dict[str, asyncio.Future[JsonValue]] = {}

    async def verify(self, source: str, variant: Variant) -> Report:
        """Verify a source for one variant; the same question is a look-up the second time.

        Raises:
            NotFound: the variant's problem is unknown.
            SandboxUnavailable: the processes don't start.
        """
        problem = find_problem(variant.problem)
        key: JsonValue = [digest_bytes(source.encode()), variant.model_dump(mode="json")]

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
            correctness = await self._correctness(problem, interpreted_source(source))
            _check_correctness(problem, correctness, variant.precision)
            return await self._estimate(problem, source, kernels, variant, floor, correctness)
        except Rejection as rejection:
            return Report(
                status=Status.REJECTED,
                failure_class=rejection.failure,
                reasons=[f"{rejection.failure}: {rejection}"],
                correctness=correctness,
                floor_us=floor,
                device=H100.name,
            )

    async def _correctness(self, problem: KernelProblem, source: str) -> list[dict[str, JsonValue]]:
        key: JsonValue = [problem.name, digest_bytes(source.encode())]
        found = await self._once("correctness", key, lambda: self._run_cases(problem, source))
        return cast("list[dict[str, JsonValue]]", _unless_error(found))

    async def _run_cases(self, problem: KernelProblem, source: str) -> JsonValue:
        from safetensors.numpy import load, save

        from .grade import measure

        digest = digest_bytes(source.encode())
        cases = problem.correctness(Precision.FP32)
        inputs = [problem.inputs(v, derive_seed(int(digest[:15], 16), "inputs", i)) for i, v in enumerate(cases)]
        blob = save({f"{i}/{name}": array for i, arrays in enumerate(inputs) for name, array in arrays.items()})
        plans: JsonValue = [problem.arguments(variant) for variant in cases]
        request: dict[str, JsonValue] = {"kind": "candidate", "source": source, "cases": plans, "traces": []}
        answer, outputs = await self._ask(Mode.INTERPRET, request, blob)
        if "error" in answer:
            return answer
        try:
            arrays = load(outputs) if outputs else {}
            failures = cast("list[dict[str, JsonValue]]", answer["cases"])
            return [
                failure | variant.model_dump(mode="json", exclude={"precision", "problem"})
                if "error" in failure
                else measure(problem, variant, given, arrays.get(str(index)))
                for index, (variant, given, failure) in enumerate(zip(cases, inputs, failures, strict=True))
            ]
        except Exception as error:  # an answer that the submission's process forged or broke
            return {"error": ["bad-output", f"the answer can't be read: {type(error).__name__}: {error}"[:400]]}

    async def _estimate(
        self,
        problem: KernelProblem,
        source: str,
        kernels: dict[str, str],
        variant: Variant,
        floor: float,
        correctness: list[dict[str, JsonValue]],
    ) -> Report:
        trace = await self._trace(problem, source, variant)
        launches = cast("list[Json]", trace["launches"])
        unknown = sorted({launch["kernel"] for launch in launches} - set(kernels))
        if unknown or not launches:
            seen = f"kernels {unknown} are no plain @triton.jit functions of the module" if unknown else "none launched"
            raise Rejection(FailureClass.NO_TRITON_KERNEL, f"expected launches of @triton.jit functions; {seen}")
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
            return estimated + [estimate_operator(operator, device) for operator in trace["operators"]]

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
            correctness=correctness,
            launches=parts,
            time_us=whole,
            crude_us=crude_us(list(zip(grids, counted, sizes, strict=True)), len(parts), H100),
            perturbed_us=[
                math.fsum(part.time_us for part in times(perturbed(H100, seed))) for seed in range(PERTURBATIONS)
            ],
            floor_us=floor,
            device=H100.name,
        )

    async def _trace(self, problem: KernelProblem, source: str, variant: Variant) -> Json:
        specs = {name: spec.model_dump(mode="json") for name, spec in problem.specs(variant).items()}
        plan: Json = {"specs": specs, "arguments": problem.arguments(variant)}
        request: Json = {"kind": "candidate", "source": source, "cases": [], "traces": [plan]}

        async def work() -> JsonValue:
            answer, _ = await self._ask(Mode.INTERPRET, request)
            return answer if "error" in answer else cast("list[JsonValue]", answer["traces"])[0]

        return cast("Json", _unless_error(await self._once("trace", request, work)))

    async def _compiled(self, module: str, launch: Json) -> dict[str, int]:
        return cast("dict[str, int]", await self._kernel("compile", Mode.COMPILE, module, compile_job(module, launch)))

    async def _counted(self, module: str, launch: Json) -> Json:
        job = {part: value for part, value in launch.items() if part != "options"}
        return cast("Json", await self._kernel("count", Mode.INTERPRET, module, job))

    async def _kernel(self, kind: str, mode: Mode, module: str, job: Json) -> JsonValue:
        request: Json = {"kind": kind, "source": module, "jobs": [job]}

        async def work() -> JsonValue:
            answer, _ = await self._ask(mode, request)
            return answer if "error" in answer else cast("list[JsonValue]", answer["answers"])[0]

        return _unless_error(await self._once(kind, request, work), job["kernel"])

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


def _unless_error(answer: JsonValue, where: str = "") -> JsonValue:
    if isinstance(answer, dict) and isinstance(answer.get("error"), list):
        code, detail = cast("list[str]", answer["error"])
        known = code in set(FailureClass)
        raise Rejection(FailureClass(code) if known else FailureClass.CRASH, f"{where}: {detail}" if where else detail)
    return answer


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
