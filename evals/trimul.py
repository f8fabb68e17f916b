"""The kernel task: write a fast Triton kernel for one variant of TriMul, graded by the verifier.

    task = TriMulTask(TaskEnvironment(sandbox=sandbox, cache=home.verifications))
    grade = await task.grade(item, '{"schedule": {...}}')     # log of the speed-up over the seed kernel

An output is `{"schedule": {field: option}}`, which the trusted renderer turns into a module, or
`{"source": module, "parent": digest}` (the kernel that it was developed from, if any), or a module's plain text. Times
are estimated, unless the environment names a device to take them on.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from ..core import ConfigurationError, Grade, Trajectory, Usage, derive_seed, digest_json
from ..kernels import H100, FailureClass, Report, Variant, Verifier, find_problem, part_is_cheap
from ..serving.tools import Tool, ToolResult
from .bundled import bundled_scaffold
from .evaluate import Attempt
from .registry import TaskEnvironment
from .scaffold import Mode, ScaffoldConfig
from .showcase import Showcase
from .task import Cheat, Direction, Item, Metric, Split
from .trimul_showcase import show_best_kernel
from .trimul_starts import continue_attempts
from .trimul_words import device_words, first_mismatch, launch_rows

VISIBLE = 64
"""Distinct assignments of the optimise split; further items repeat them."""

SUSPECT = re.compile(r"\b(ctypes|cffi|subprocess|socket|importlib|sys\._getframe|gc\.get_objects|PAWL_\w+)\b")
"""What a kernel's module has no honest use for: ways out of the process or into its caller. How much of the work may be
left to torch is the verifier's to say."""

BY_ESTIMATED_TIME = (FailureClass.IMPOSSIBLE, FailureClass.TORCH_SHARE)
"""Rejections of a verification that rest on its estimate of the time."""


class TriMulTask:
    """Kernels for drawn variants of TriMul; the grade is ln(seed kernel's time / candidate's time)."""

    name = "trimul"
    metric = Metric(
        name="log_speedup",
        unit="ln(x)",
        direction=Direction.MAXIMISE,
        worst=-1.5,
        best=math.log(64.0),
        margin=0.25,
    )

    def __init__(self, environment: TaskEnvironment) -> None:
        self._problem = find_problem("trimul")
        self._seed_source = self._problem.seed_source()
        self._accelerator = environment.accelerator
        self.verifier = Verifier(
            environment.sandbox, environment.cache, environment.shared_cache, workers=environment.workers
        )

    @property
    def cpu_seconds(self) -> float:
        """CPU time that verifications have taken so far; look-ups take none."""
        return self.verifier.cpu_seconds

    def items(self, split: Split, seed: int, count: int, start: int = 0) -> Sequence[Item]:
        """Assignments of a split's stream; the visible split repeats its first 64 as the same items."""
        stream = derive_seed(seed, "trimul", split)
        wanted = range(start, start + count)
        if split is Split.OPTIMISE:
            drawn = self._problem.draw(stream, VISIBLE)
            return [self._item(split, stream, index % VISIBLE, drawn[index % VISIBLE]) for index in wanted]
        drawn = self._problem.draw(stream, count, start)
        return [self._item(split, stream, index, variant) for index, variant in zip(wanted, drawn, strict=True)]

    def _item(self, split: Split, stream: int, index: int, variant: Variant) -> Item:
        return Item(
            id=f"trimul-{digest_json([stream, index])[:16]}",
            task=self.name,
            split=split,
            slice=self._problem.slice_of(variant),
            payload={
                "problem": self._problem.name,
                "variant": variant.model_dump(mode="json"),
                "fields": {field.name: list(field.options) for field in self._problem.space.fields},
                "contract": self._problem.about,
            },
        )

    def seed_scaffold(self, capable: bool) -> Mapping[str, bytes]:
        """The bundled agent: a capable model writes modules and may repair them; a small one chooses schedules."""
        if not capable:
            config = ScaffoldConfig(mode=Mode.SCHEDULE, prompt={"1_task": "Choose a fast Triton schedule."})
            return bundled_scaffold("trimul", config)
        config = ScaffoldConfig(
            mode=Mode.SOURCE, prompt={"1_task": "You write fast Triton kernels."}, samples=2, repairs=2
        )
        own = {"device.txt": device_words(H100).encode(), "seed.py": self._seed_source.encode()}
        return {**bundled_scaffold("trimul", config), **own}

    def continued(self, attempts: Sequence[Attempt], earlier: Sequence[Trajectory], seed: int) -> list[Attempt]:
        """The attempts with the kernels that they begin from: see `trimul_starts`."""
        visible = {item.id: item for item in self.items(Split.OPTIMISE, seed, VISIBLE)}
        return continue_attempts(attempts, earlier, visible, self._seed_source)

    def tools(self, item: Item) -> Sequence[Tool]:
        """`verify`: what an output is worth and why.

        The answer has `accepted`, `reasons` (the verifier's words), `mismatch` (of the case that they speak of: how
        far off it is, never its sizes or values), `value`, `time_us`, `floor_us`, `basis` (of these two), and
        `launches` (where the time goes, which is estimated in any case, and each kernel's resources).
        """

        async def verify(arguments: dict[str, JsonValue]) -> ToolResult:
            output = arguments.get("output")
            grade, report = await self._assess(item, output if isinstance(output, str) else json.dumps(output))
            answer: dict[str, JsonValue] = {
                "accepted": grade.valid,
                "reasons": grade.details.get("words", []),
                "mismatch": first_mismatch(report) if report is not None else None,
                "value": grade.value,
                "time_us": grade.details.get("time_us"),
                "floor_us": report.floor_us if report is not None else None,
                "basis": grade.details.get("basis"),
                "launches": launch_rows(report) if report is not None else [],
            }
            return ToolResult(answer, Usage(verifications=1))

        return [Tool("verify", verify)]

    async def grade(self, item: Item, output: str | None) -> Grade:
        """Log of the speed-up over the seed kernel on the item's variant.

        A rejected or missing kernel gets the floor, its failure class as the reason, and the verifier's own words in
        `details["words"]`. `details["conditions"]` holds an estimated grade under perturbed device constants and under
        the cruder estimator; `details["launches"]`, for a module, where its time goes by the estimate.
        """
        grade, report = await self._assess(item, output)
        if report is None or not grade.valid or "schedule" in grade.details:
            return grade
        return grade.model_copy(update={"details": {**grade.details, "launches": launch_rows(report)}})

    async def _assess(self, item: Item, output: str | None) -> tuple[Grade, Report | None]:
        """The grade, and what the verifier said, where it was asked."""
        if output is None:
            return self._rejected(["there is no output"], "no-output", {}, estimated=self._accelerator is None), None
        try:
            source, schedule = self._source(output)
        except ConfigurationError as error:
            return self._rejected([str(error)], "bad-output", {}, estimated=self._accelerator is None), None
        variant = Variant.model_validate(item.payload["variant"])
        if self._accelerator is None:
            # What the trusted renderer wrote does at large sizes what it does at small ones; a module may not.
            deep = schedule is None and item.split is Split.ADVERSARIAL and part_is_cheap(self._problem, variant)
            report = await self.verifier.verify(source, variant, deep=deep)
        else:
            report = await self.verifier.measure(source, variant, accelerator=self._accelerator)
        details: dict[str, JsonValue] = {"basis": report.basis, **({"schedule": dict(schedule)} if schedule else {})}
        if not report.accepted or report.time_us is None:
            estimated = report.basis == "estimated" and (
                self._accelerator is None or report.failure_class in BY_ESTIMATED_TIME
            )
            named = str(report.failure_class or "rejected")
            return self._rejected(report.reasons, named, details, estimated=estimated), report
        seed, seed_us = await self._seed(variant, report)
        details |= {
            "time_us": report.time_us,
            "crude_us": report.crude_us,
            "floor_us": report.floor_us,
            "seed_us": seed_us,
        }
        if seed is not None:
            details["conditions"] = {name: self._clip(value) for name, value in _conditions(seed, report).items()}
        value = self._clip(math.log(seed_us / report.time_us))
        return Grade(value=value, valid=True, estimated=report.basis == "estimated", details=details), report

    def _clip(self, value: float) -> float:
        return min(max(value, self.metric.worst), self.metric.best)

    def _rejected(
        self, words: list[str], failure_class: str, details: dict[str, JsonValue], *, estimated: bool
    ) -> Grade:
        details = {**details, "failure_class": failure_class, "words": list(words)}
        worst = self.metric.worst
        return Grade(value=worst, valid=False, reasons=[failure_class], estimated=estimated, details=details)

    def _source(self, output: str) -> tuple[str, Mapping[str, str] | None]:
        """The module that an output stands for, and its schedule if it names one."""
        try:
            answer = cast("JsonValue", json.loads(output))
        except ValueError:
            return output, None
        match answer:
            case {"schedule": dict(choices)}:
                schedule = self._problem.space.validate_schedule(choices)
                return self._problem.render(schedule), schedule
            case {"source": str(source)}:
                return source, None
            case _:
                raise ConfigurationError('the output is neither {"schedule": {...}} nor {"source": "..."} nor a module')

    async def _seed(self, variant: Variant, beside: Report) -> tuple[Report | None, float]:
        """The seed kernel's time on the basis of a report, and its own report if that is an estimate."""
        if beside.baseline_us is not None:
            return None, beside.baseline_us
        report = await self.verifier.verify(self._seed_source, variant)
        if report.time_us is None:
            raise ConfigurationError(
                f"The seed kernel is rejected on {variant}: {report.reasons}. Every variant must accept the seed; "
                "repair it, or the variants that are drawn."
            )
        return report, report.time_us

    async def perturb(self, item: Item, output: str) -> Grade:
        """The least grade over perturbed device constants and the cruder estimator."""
        grade = await self.grade(item, output)
        conditions = grade.details.get("conditions")
        if not isinstance(conditions, dict):
            return grade
        least = min(float(value) for value in conditions.values() if isinstance(value, int | float))
        return grade.model_copy(update={"value": least})

    def cheats(self, item: Item, output: str | None, grade: Grade) -> Sequence[Cheat]:
        """A time below the physical floor, or a module that reaches for what a kernel has no use for."""
        found: list[Cheat] = []
        time, floor = grade.details.get("time_us"), grade.details.get("floor_us")
        if isinstance(time, int | float) and isinstance(floor, int | float) and time < floor:
            found.append(Cheat(code="below-floor", evidence=f"{time:.1f} us where physics allows {floor:.1f} us"))
        if grade.details.get("failure_class") == FailureClass.IMPOSSIBLE:
            found.append(Cheat(code="below-floor", evidence=str(grade.details.get("words"))))
        if output is not None and "schedule" not in grade.details:
            try:
                source, _ = self._source(output)
            except ConfigurationError:
                return found
            names = sorted({match.group(0) for match in SUSPECT.finditer(source)})
            found += [Cheat(code="reaches-out", evidence=name) for name in names]
        return found

    async def showcase(self, best: Sequence[Trajectory], folder: Path) -> Showcase | None:
        """The best kernel among the best trajectories, rated on the public benchmark's shapes."""
        valid = [each for each in best if each.output is not None and each.grade is not None and each.grade.valid]
        sources = [self._source(each.output)[0] for each in valid if each.output is not None]
        return await show_best_kernel(self._problem, self.verifier, sources, folder)

    async def close(self) -> None:
        """Stop the verifier's workers."""
        await self.verifier.close()


def _conditions(seed: Report, report: Report) -> dict[str, float]:
    """The grade under each perturbed condition, seed and candidate perturbed alike."""
    found: dict[str, float] = {}
    if seed.crude_us and report.crude_us:
        found["crude"] = math.log(seed.crude_us / report.crude_us)
    for index, (before, after) in enumerate(zip(seed.perturbed_us, report.perturbed_us, strict=True)):
        found[f"device-{index}"] = math.log(before / after)
    return found
