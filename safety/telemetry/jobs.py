"""The spans of a training job, which has no network: it writes them to a file, and the controller hands them on.

    spans = JobSpans(run_dir / SPANS, os.environ)              # in the job
    with spans.span(JobSpan.STEP, step=3): ...

    collect_job(run_dir, job=id, parent=("round", 2), ...)     # in the controller, once the job has ended

The file is untrusted: a line counts only with a known name, the job's own trace, times within the job's life and
finite numbers; ids are made anew. What remains is marked as told by the job itself.
"""

import json
import math
import os
import re
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..sandbox.results import read_result
from . import names
from .spans import Attributes, AttributeValue, here

SPANS = "spans.jsonl"
"""Name of the file in the run dir."""
TRACEPARENT = "TRACEPARENT"
"""Variable that tells a job where in the trace it belongs (W3C Trace Context)."""
FILE_BYTES = 1 << 20
SPANS_KEPT = 2_000
SKEW_SECONDS = 2.0
_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")

_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
_Name = Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]
_Nanoseconds = Annotated[int, Field(ge=0, lt=1 << 63)]
_Number = Annotated[int, Field(gt=-(1 << 63), lt=1 << 63)] | float


class JobSpan(StrEnum):
    """What a job may time."""

    TRAIN = "train"
    """One process's work on the job, from its start or its last checkpoint."""
    IMPORT = "import"
    """Loading torch."""
    LOAD = "load"
    """Reading the base model and the checkpoint."""
    STEP = "optimiser step"
    CHECKPOINT = "checkpoint"


class JobLine(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    trace: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    id: _Id
    parent: _Id
    name: Annotated[JobSpan, Field(strict=False)]
    start: _Nanoseconds
    end: _Nanoseconds
    numbers: Annotated[dict[_Name, _Number], Field(max_length=16)] = {}


class JobSpans:
    """Writes a job's spans; does nothing without a `TRACEPARENT`.

    Args:
        path: the file; a resumed job goes on with it.
        environ: the variables of the job.
    """

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        match = _PARENT.fullmatch(environ.get(TRACEPARENT, ""))
        self._path = path
        self._trace, self._above = match.groups() if match else ("", "")

    @contextmanager
    def span(self, name: JobSpan, **numbers: float) -> Generator[None]:
        """Time a block; what it can't write is lost."""
        if not self._trace:
            yield
            return
        own, above, start = os.urandom(8).hex(), self._above, time.time_ns()
        self._above = own
        try:
            yield
        finally:
            self._above = above
            kept = {key: value for key, value in numbers.items() if math.isfinite(value)}
            line = JobLine(
                trace=self._trace, id=own, parent=above, name=name, start=start, end=time.time_ns(), numbers=kept
            )
            try:
                with self._path.open("ab") as file:
                    file.write(line.model_dump_json().encode() + b"\n")
            except OSError:
                self._trace = ""


def job_environment(job: str) -> dict[str, str]:
    """The variables that tell a job where in the trace it belongs; none where telemetry isn't open."""
    place = here()
    return {TRACEPARENT: place.known("job", job).traceparent} if place is not None else {}


def collect_job(
    run_dir: Path, *, job: str, parent: tuple[str | int, ...], attributes: Attributes, failed: str = ""
) -> int:
    """Hand on the span of a job that has ended, and of its own spans what can be believed.

    Args:
        run_dir: where the job ran.
        job: its id.
        parent: what the id of the span above follows from.
        attributes: what is known of the job.
        failed: kind of error, where it failed.

    Returns:
        How many of the job's own spans were handed on.
    """
    place = here()
    if place is None:
        return 0
    now = time.time()
    start = _submitted(run_dir, now)
    place.ended("training job", ("job", job), start, now, {names.JOB: job, **attributes}, parent=parent, failed=failed)
    _, trace, above, _ = place.known("job", job).traceparent.split("-")
    lines = believable(read_result(run_dir, SPANS, FILE_BYTES) or b"", trace, start - SKEW_SECONDS, now + SKEW_SECONDS)
    order = {line.id: number for number, line in enumerate(lines)}
    for number, line in enumerate(lines):
        numbers: dict[str, AttributeValue] = {f"pawl.training.{key}": value for key, value in line.numbers.items()}
        # A span ends, and is written, before the one above it: so no chain of parents can be a ring.
        nested = line.parent != above and order.get(line.parent, -1) > number
        higher = ("job", job, line.parent) if nested else ("job", job)
        place.ended(
            line.name.value,
            ("job", job, line.id),
            line.start / 1e9,
            line.end / 1e9,
            {names.JOB: job, names.UNTRUSTED: True, **numbers},
            parent=higher,
        )
    return len(lines)


def believable(data: bytes, trace: str, earliest: float, latest: float) -> list[JobLine]:
    """The lines that can be a job's spans, each id once, `SPANS_KEPT` at the most.

    Args:
        data: the file.
        trace: the trace that the job was told.
        earliest: seconds since the epoch before which nothing of it can have begun.
        latest: seconds since the epoch after which nothing of it can have ended.
    """
    found: dict[str, JobLine] = {}
    for text in data.splitlines()[: 2 * SPANS_KEPT]:
        try:
            line = JobLine.model_validate(json.loads(text))
        except (ValueError, ValidationError, RecursionError):
            continue
        plausible = earliest <= line.start / 1e9 <= line.end / 1e9 <= latest
        if (
            line.trace == trace
            and plausible
            and line.id != line.parent
            and all(map(math.isfinite, line.numbers.values()))
        ):
            found.setdefault(line.id, line)
        if len(found) == SPANS_KEPT:
            break
    return list(found.values())


def _submitted(run_dir: Path, now: float) -> float:
    """When the job was submitted, which is when its settings were written."""
    try:
        return min(now, (run_dir / "job.json").lstat().st_mtime)
    except OSError:
        return now
