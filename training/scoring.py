"""The trainer's side of the comparison with a server: one sequence, scored by a process in the sandbox.

    scores, adapter = await trainer_scores(job, sandbox, folder)

torch is loaded there, not here. The adapter is bytes, for the artefact store, from which it is published like any.
"""

import sys
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..core import ConfigurationError, canonical_json
from ..safety.sandbox import Command, Ending, Limits, Mount, Result, Sandbox, Use, read_result
from ..safety.sandbox.trees import remove_tree
from .attempt import default_limits
from .backend import adapter_files
from .cuda_files import cuda_environment, cuda_mounts
from .job import JobState, JobStatus, TrainJob

SCORES, ADAPTER = "scores.json", "adapter"
_SCORES_BYTES = 1 << 20


class TrainerScores(BaseModel):
    """Log-probabilities (nats) of each token but the first, given those before it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tokens: list[int] = Field(min_length=2, max_length=4096)
    base: list[float]
    adapter: list[float]
    """With the adapter beside it."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not len(self.tokens) - 1 == len(self.base) == len(self.adapter):
            raise ValueError("expected one log-probability a token but the first")
        return self


async def trainer_scores(
    job: TrainJob, sandbox: Sandbox, folder: Path, limits: Limits | None = None
) -> tuple[TrainerScores, dict[str, bytes]]:
    """Score the sequence with the base model of a job, and with a random adapter of the job's shape.

    Args:
        job: of the kind that will train: its base, rank, layers, modules and precision.
        sandbox: runs the trainer.
        folder: for scratch; made, and removed in the end.
        limits: of the trainer; `attempt.default_limits` where there are none.

    Returns:
        The scores and the adapter's files.

    Raises:
        ConfigurationError: the trainer refuses the base, or fails.
    """
    run, work = folder / "run", folder / "work"
    try:
        for each in (run, work):
            each.mkdir(parents=True, mode=0o700)
        (run / "job.json").write_bytes(canonical_json(job))
        result = await sandbox.run(_command(job, run, work, limits or default_limits()))
        data = read_result(run, SCORES, _SCORES_BYTES)
        if result.ending is not Ending.EXITED or result.status != 0 or data is None:
            raise ConfigurationError(f"The trainer couldn't score a sequence with {job.base_model_dir}: {_why(result)}")
        try:
            scores = TrainerScores.model_validate_json(data)
        except ValidationError as error:
            raise ConfigurationError(f"The trainer's scores can't be used: {error.errors()[0]['msg']}.") from error
        return scores, adapter_files(JobStatus(state=JobState.SUCCEEDED, adapter=run / ADAPTER))
    finally:
        remove_tree(folder)


def _command(job: TrainJob, run: Path, work: Path, limits: Limits) -> Command:
    return Command(
        argv=(sys.executable, "-P", "-m", "pawl.training.score", str(run)),
        work=work,
        mounts=(Mount(path=run, writable=True), Mount(path=job.base_model_dir.absolute()), *cuda_mounts(job)),
        env={
            "OMP_NUM_THREADS": str(job.threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "HF_HUB_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **cuda_environment(job),
        },
        limits=limits,
        use=Use.TRAINING,
    )


def _why(result: Result) -> str:
    words = result.stderr.decode(errors="replace").strip()[-500:]
    return words or f"it ended as {result.ending} with status {result.status}."
