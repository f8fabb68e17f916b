"""What the controller keeps of a job, out of its trainer's reach: `jobs/ID.json`, replaced at each start and end.

The run dir is the trainer's to write. What the job's settings and data are, how often it was started and died, and
what it took, is told by this.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core import ConfigurationError, Usage, canonical_json
from ..core.artifacts import write_durably
from .job import TrainJob


class JobRecord(BaseModel):
    """One job, as it was submitted, and what became of its starts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    job: TrainJob
    data_digest: str
    """SHA-256 of the datums' bytes."""
    most_steps: int = Field(ge=0)
    """Optimiser steps that it can take."""
    starts: int = Field(default=0, ge=0)
    ends: int = Field(default=0, ge=0)
    """Starts whose end a controller saw; the others died with theirs."""
    cpu_seconds: float = Field(default=0.0, ge=0)
    """CPU time of those that ended, as the sandbox measured it."""
    step: int = Field(default=0, ge=0)
    """The furthest checkpoint at which a trainer died."""
    deaths: int = Field(default=0, ge=0)
    """How often in a row one died there."""

    def started(self) -> "JobRecord":
        """With one start more."""
        return self.model_copy(update={"starts": self.starts + 1})

    def ended(self, cpu_seconds: float) -> "JobRecord":
        """With the end of a start, and what it took."""
        return self.model_copy(update={"ends": self.ends + 1, "cpu_seconds": self.cpu_seconds + cpu_seconds})

    def died(self, step: int) -> "JobRecord":
        """With one death more; a checkpoint further on than any before, within what the job can reach, counts anew."""
        further = min(step, self.most_steps)
        if further > self.step:
            return self.model_copy(update={"step": further, "deaths": 1})
        return self.model_copy(update={"deaths": self.deaths + 1})

    def bill(self, told: Usage, cpu_seconds_a_start: float) -> Usage:
        """What the job took, given what its trainer says.

        The steps are its word, up to all that there are. CPU time is what was measured; only for starts whose end
        nobody saw does its word count, up to what a start may take.
        """
        unseen = self.starts - self.ends
        most = self.cpu_seconds + unseen * cpu_seconds_a_start
        return Usage(
            training_steps=min(told.training_steps, self.most_steps),
            cpu_seconds=round(max(self.cpu_seconds, min(told.cpu_seconds, most)), 3),
        )


def read_record(path: Path) -> JobRecord | None:
    """The record of a job, or none where none was submitted.

    Raises:
        ConfigurationError: it is not one of this version of Pawl.
    """
    try:
        return JobRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "record"
        raise ConfigurationError(
            f"{path.name} in {path.parent} can't be used: {where}: {first['msg']}. "
            "It may be of another version of Pawl; submit the job again under a new id."
        ) from error


def write_record(path: Path, record: JobRecord) -> None:
    """Keep a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, canonical_json(record))
