"""The verifier: is this kernel right and honest, does it fit an H100, and how long would it take there.

    verifier = Verifier(default_sandbox(), home.verifications)
    report = await verifier.verify(source, variant)
    await verifier.close()

The submission's host code runs in the sandbox alone, for what it does to be recorded (`checking.py`); what is graded,
counted and compiled are the recorded steps, in processes that execute nothing else of it. Every step is cached by what
it depends on: correctness by the source but for what the interpreter ignores, a compilation by the kernel, its types
and options, a count by the kernel and its launch. docs/verifier.md says what a verdict rests on.
"""

import asyncio
import contextlib
import math
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, JsonValue

from ..core import HomeDamaged, derive_seed, digest_bytes
from ..safety.sandbox import Sandbox
from ..safety.telemetry import names, span
from .checking import Checked, check
from .estimating import Estimate, estimate, recorded_call
from .extract import Kernels, extract_kernels, interpreted_source
from .honesty import check_correctness, check_products, check_share, check_work, in_words, is_known, same_course
from .measured import measured_reports
from .model.device import H100
from .problem import KernelProblem, Variant
from .problems import PROBLEMS, find_problem
from .report import FailureClass, Report, Status
from .requests import Rejection, Requests, unless_failed
from .sampled import Looked, look
from .submission import completed
from .warm import ChildLimits

if TYPE_CHECKING:
    from .measure import Accelerator, MeasureSettings

REPORT_BYTES = 8 << 20
"""What an answer may have beside the outputs of the cases."""
AFFORDABLE_FLOPS, AFFORDABLE_BYTES = 3e10, 128e6
"""What a run at a smaller size may take, to see whether the steps that a submission takes only at large sizes are
right."""

PART_BYTES = 3e8
"""Least traffic of a variant up to which grading a part of its output takes some ten seconds."""


def part_is_cheap(problem: KernelProblem, variant: Variant) -> bool:
    """Whether `verify(deep=True)` takes seconds rather than minutes for this variant."""
    return problem.least_bytes(variant) <= PART_BYTES


class ShapesReport(BaseModel):
    """One source over several variants."""

    model_config = ConfigDict(frozen=True)

    reports: list[Report]
    geomean_us: float | None
    """Geometric mean of the estimated times; none if the source was rejected on any variant."""


class Verifier:
    """Verifies sources; safe to call many times at once from one event loop."""

    def __init__(
        self,
        sandbox: Sandbox,
        cache: Path,
        shared_cache: Path | None = None,
        workers: int = 2,
        limits: ChildLimits | None = None,
        secret: int | None = None,
    ) -> None:
        """Open a verifier; processes start with the first verification that isn't cached.

        Args:
            sandbox: where everything of a submission runs.
            cache: folder of answers, made if need be.
            shared_cache: a second folder of answers, read only.
            workers: requests at work at once.
            limits: what one request may take.
            secret: what the sizes and the values that decide are drawn from; by default it is drawn once for the cache
                and kept in it.
        """
        limits = limits or ChildLimits()
        self._secret_file, self._secret = cache / "secret", secret
        self._sandbox, self._measuring = sandbox, asyncio.Lock()
        self._requests = Requests(sandbox, cache, shared_cache, workers, limits, _answer_bytes())

    async def verify(
        self, source: str, variant: Variant, problem: KernelProblem | None = None, *, deep: bool = False
    ) -> Report:
        """Verify a source for one variant; the same question is a look-up the second time.

        Args:
            source: the submission.
            variant: sizes, distribution and contract.
            problem: the variant's problem, where it isn't one in the house.
            deep: whether a drawn part of the output is graded at the variant's own size too, which takes seconds;
                without it, what runs there is held against what ran where outputs were graded.

        Raises:
            NotFound: the variant's problem is unknown.
            SandboxUnavailable: the processes don't start.
        """
        problem = problem or find_problem(variant.problem)
        report = await self._report("report", source, variant, problem, graded=True)
        return await self._looked(source, variant, problem, report) if deep and report.accepted else report

    async def measure(
        self,
        source: str,
        variant: Variant,
        problem: KernelProblem | None = None,
        *,
        accelerator: "Accelerator | None" = None,
        settings: "MeasureSettings | None" = None,
    ) -> Report:
        """Verify a source for one variant and, if it is accepted, time it on a device.

        A time that was taken is a look-up the second time, so that nobody gets a better one by asking again. One
        measurement is under way at a time.

        Args:
            source: the submission.
            variant: sizes, distribution and contract.
            problem: the variant's problem, where it isn't one in the house.
            accelerator: the device; the first CUDA device if none.
            settings: how long and how much.

        Raises:
            NotFound: the variant's problem is unknown.
            NoDevice: there is no device.
            DeviceFailed: the device fails.
            BaselineFailed: the problem's seed kernel can't be timed.
            SandboxUnavailable: the processes don't start.
        """
        from .measure import MeasureSettings, open_accelerator

        asked, device = problem or find_problem(variant.problem), accelerator or open_accelerator()
        report = await self.verify(source, variant, asked)
        if not report.accepted:
            return report
        settings = settings or MeasureSettings()
        digest = digest_bytes(completed(asked, source).encode())
        said = [each.model_dump(mode="json") for each in (variant, settings)]
        key: JsonValue = [digest, asked.name, device.name, *said]

        async def work() -> Report:
            async with self._measuring:
                (found,) = await measured_reports(
                    source, [variant], [report], asked, self._sandbox, accelerator=device, settings=settings
                )
            return found

        return unless_failed(await self._requests.once("measured", key, Report, work))

    async def estimate(self, source: str, variant: Variant, problem: KernelProblem | None = None) -> Report:
        """Estimate a source's time for one variant, right or wrong, in Triton or not.

        Raises:
            NotFound: the variant's problem is unknown.
            SandboxUnavailable: the processes don't start.
        """
        return await self._report("estimate", source, variant, problem or find_problem(variant.problem), graded=False)

    async def estimate_shapes(self, source: str, variants: Sequence[Variant]) -> ShapesReport:
        """Verify a source for several variants, and take the geometric mean of their times."""
        reports = list(await asyncio.gather(*(self.verify(source, variant) for variant in variants)))
        return ShapesReport(reports=reports, geomean_us=geometric_mean(reports))

    @property
    def cpu_seconds(self) -> float:
        """CPU time that requests have taken so far; look-ups take none."""
        return self._requests.cpu_seconds

    async def close(self) -> None:
        """End the processes."""
        await self._requests.close()

    async def _report(
        self, kind: str, source: str, variant: Variant, problem: KernelProblem, *, graded: bool
    ) -> Report:
        source = completed(problem, source)
        digest = digest_bytes(source.encode(errors="surrogatepass"))
        key: JsonValue = [digest, problem.name, variant.model_dump(mode="json")]

        async def work() -> Report:
            return await self._verify(problem, source, variant, graded=graded)

        with span("verification", {names.TASK: variant.problem}) as current:
            report = unless_failed(await self._requests.once(kind, key, Report, work))
            current.set(names.ACCEPTED, report.accepted)
        return report

    async def _looked(self, source: str, variant: Variant, problem: KernelProblem, report: Report) -> Report:
        """The report of an accepted source, with what a part of its output at the variant's size shows."""
        source = completed(problem, source)
        kernels = _kernels(source)
        key: JsonValue = [digest_bytes(source.encode()), problem.name, variant.model_dump(mode="json")]

        async def work() -> BaseModel:
            found = await estimate(self._requests, problem, source, kernels, variant)
            seed = self._seed(source, "sampled", str(variant))
            return await look(self._requests, problem, kernels, variant, found.recorded, seed)

        try:
            looked = unless_failed(await self._requests.once("sampled", key, Looked, work))
            if looked.case is None:
                return report.model_copy(update={"unsampled": looked.why})
            check_correctness(problem, [looked.case], variant)
        except Rejection as rejection:
            return _rejected(rejection, report.correctness, report.floor_us)
        return report.model_copy(update={"correctness": [*report.correctness, looked.case]})

    async def _verify(self, problem: KernelProblem, source: str, variant: Variant, *, graded: bool) -> Report:
        correctness: list[dict[str, JsonValue]] = []
        floor = 1e6 * max(problem.flops(variant) / H100.half_flops, problem.least_bytes(variant) / 3.35e12)
        try:
            kernels = _kernels(source)
            checked: Checked | None = None
            if graded:
                checked = await self._checked(problem, source, kernels)
                correctness = list(checked.cases)
                check_correctness(problem, correctness, variant)
            found = await estimate(self._requests, problem, source, kernels, variant)
            if checked is not None:
                if found.configs:
                    checked = await self._checked(problem, source, kernels, found.configs)
                    check_correctness(problem, list(checked.cases), variant)
                correctness += await self._check_course(problem, source, kernels, variant, found, checked)
                check_share(problem, found)
                check_work(problem, variant, found)
                if found.time_us < floor:
                    raise Rejection(
                        FailureClass.IMPOSSIBLE,
                        f"estimated at {found.time_us:.0f} us, below the {floor:.0f} us that the problem's arithmetic "
                        "or traffic takes",
                    )
        except Rejection as rejection:
            return _rejected(rejection, correctness, floor)
        return Report(
            status=Status.ACCEPTED,
            correctness=correctness,
            launches=list(found.launches),
            time_us=found.time_us,
            interval_us=found.interval_us,
            crude_us=found.crude_us,
            perturbed_us=list(found.perturbed_us),
            floor_us=floor,
            device=H100.name,
        )

    def _seed(self, source: str, *names: str) -> int:
        """A seed of the source's own that nothing in the sandbox can know."""
        if self._secret is None:
            self._secret = _kept_secret(self._secret_file)
        digest = digest_bytes(interpreted_source(source).encode(errors="surrogatepass"))
        return derive_seed(self._secret, digest, *names)

    async def _checked(
        self,
        problem: KernelProblem,
        source: str,
        kernels: Kernels,
        configs: Mapping[str, int] | None = None,
        size: Variant | None = None,
    ) -> Checked:
        """The grades of a source on the problem's small cases, or on one at a size."""
        same = interpreted_source(source)
        cases = [size] if size is not None else problem.correctness(self._seed(source, "sizes"))
        key: JsonValue = [problem.name, digest_bytes(same.encode()), str(size or ""), dict(configs or {})]

        ask = self._requests.ask if size is None else self._requests.ask_patiently

        async def work() -> BaseModel:
            return await check(ask, problem, same, kernels, cases, self._seed(source, "values"), configs)

        return unless_failed(await self._requests.once("correctness", key, Checked, work))

    async def _check_course(
        self,
        problem: KernelProblem,
        source: str,
        kernels: Kernels,
        variant: Variant,
        found: Estimate,
        checked: Checked,
    ) -> list[dict[str, JsonValue]]:
        """See that what runs at the variant's size ran where outputs were checked, or check it at a smaller size.

        Which kernels run may depend on the size, and how often, but the order in which they first run must be that of
        a checked call. Operators may come and go with the mask and the strides: each must be of some checked call.

        Returns:
            The further cases that were graded.

        Raises:
            Rejection: no affordable size takes the same steps, or the output there is wrong.
        """
        first = checked
        if is_known(found, first):
            return []
        check_products(variant, found, first)
        for small in problem.smaller(variant):
            flops, traffic = problem.flops(small), problem.least_bytes(small)
            if flops > AFFORDABLE_FLOPS or traffic > AFFORDABLE_BYTES:
                break
            recording = await recorded_call(self._requests, problem, source, small, found.configs)
            if same_course(found.recording, [recording.course]):
                checked = await self._checked(problem, source, kernels, found.configs, small)
                check_correctness(problem, list(checked.cases), variant)
                if is_known(found, checked):
                    return list(checked.cases)
                if not same_course(found.recording, checked.courses):
                    break  # it does other steps where it is graded than where it isn't, at the same size
        runs = " or ".join(sorted({in_words(course) for course in first.courses}))
        raise Rejection(
            FailureClass.UNCHECKED,
            f"it does {in_words(found.recording.course)}, where outputs were checked it does {runs}"[:1200],
        )


def _rejected(rejection: Rejection, correctness: list[dict[str, JsonValue]], floor: float) -> Report:
    return Report(
        status=Status.REJECTED,
        failure_class=rejection.failure,
        reasons=[f"{rejection.failure}: {rejection}"],
        correctness=correctness,
        floor_us=floor,
        device=H100.name,
    )


def geometric_mean(reports: Sequence[Report]) -> float | None:
    """Of the times of reports that are all accepted."""
    times = [report.time_us for report in reports if report.accepted and report.time_us is not None]
    whole = len(times) == len(reports) > 0
    return math.exp(math.fsum(math.log(time) for time in times) / len(times)) if whole else None


def _kept_secret(path: Path) -> int:
    """The number in a file of the owner's alone, drawn if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError), open(path, "x", opener=_owner_only) as file:
        file.write(str(secrets.randbits(62)))
    for _ in range(100):
        text = path.read_text()
        if text:
            return int(text)
        time.sleep(0.01)  # another process has made the file and is about to write it
    raise HomeDamaged(f"{path} is empty; expected a number. Remove it, and it is drawn anew.")


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _kernels(source: str) -> Kernels:
    try:
        interpreted_source(source).encode()
        return extract_kernels(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Rejection(FailureClass.SYNTAX_ERROR, f"the source doesn't parse: {error}") from None


def _answer_bytes() -> int:
    """The outputs of any problem's session, several times over, take less than eight times what its cases move.

    Those of a session at a smaller size are no more than half of what that may move, each: a dozen fit.
    """
    outputs = (math.fsum(map(each.least_bytes, each.correctness())) for each in PROBLEMS.values())
    return REPORT_BYTES + max(8 * math.ceil(max(outputs)), 6 * math.ceil(AFFORDABLE_BYTES))
