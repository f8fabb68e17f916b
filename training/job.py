"""A training job and its status: plain data, the same for every backend."""

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..core import Usage, digest_json
from ..safety.sandbox import read_result
from .environment import EnvironmentSpec
from .objectives import ObjectiveSettings

_STATUS_BYTES = 1 << 16
_ERROR_LENGTH = 4000
_Steps = Annotated[int, Field(ge=0, le=10**9)]
_Metric = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Precision(StrEnum):
    """Arithmetic of the forward and backward passes; the adapter and its optimiser are always float32."""

    AUTO = "auto"
    """bfloat16 where the processor multiplies it natively, else float32."""
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class DeviceKind(StrEnum):
    """What the passes run on."""

    AUTO = "auto"
    """CUDA devices where the trainer sees any, else the CPU."""
    CPU = "cpu"
    CUDA = "cuda"
    """Refused where there is none, rather than run for weeks."""


class Modules(StrEnum):
    """Which linear maps of a layer a new adapter changes."""

    ALL = "all"
    ATTENTION = "attention"


class TrainJob(BaseModel):
    """Everything that decides the bytes of the adapter, besides the datums and the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[2] = 2
    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    """Names the run dir; deterministic, so that submitting twice attaches."""
    objective: ObjectiveSettings
    """Which loop trains, and its loss; the advantages of a policy gradient are already in the datums."""
    environment: EnvironmentSpec | None = None
    """Makes the rollouts in the trainer itself; the job then has no datums."""
    base_model_dir: Path
    """Folder of a Hugging Face causal language model (config.json, safetensors)."""
    base_model_name: str
    """The base's name at its server; the adapter is tied to it."""
    base_digest: str = ""
    """Digest of the base's weights where it is known; a run dir is not resumed on another base."""
    init_adapter: Path | None = None
    """Adapter to go on from; it brings its own layers and modules, and must have this rank and alpha."""
    init_critic: Path | None = None
    """Value head to go on from (PPO): the `critic` folder of another job on this base."""
    rank: int = Field(default=16, ge=1, le=512)
    alpha: float = Field(default=32.0, gt=0)
    layers: int = Field(default=10, ge=1)
    """How many of the last layers a new adapter changes; what is below runs once, without gradients."""
    modules: Modules = Modules.ALL
    learning_rate: float = Field(default=2e-3, gt=0)
    epochs: int = Field(default=3, ge=1)
    minibatch: int = Field(default=32, ge=1)
    """Datums an optimiser step."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Precision = Precision.AUTO
    device: DeviceKind = DeviceKind.AUTO
    threads: int = Field(default=2, ge=1)
    """Of each process."""
    processes: int = Field(default=1, ge=1, le=64)
    """That share a step's packs between them, each with the whole model."""
    devices: int = Field(default=1, ge=1, le=64)
    """Of each process: a model too large for one is spread over them by layers, and one at a time works."""
    pack_tokens: int = Field(default=512, ge=1)
    """Tokens a forward pass; bounds memory."""
    recompute: bool = False
    """Keep only what goes into each adapted layer, and run the layer again for its gradient: less memory, and half as
    much work again."""
    checkpoint_every: int = Field(default=1, ge=1)
    """Optimiser steps between checkpoints."""
    seed: int = 0

    @model_validator(mode="after")
    def _one_process(self) -> Self:
        most = max(self.processes, self.devices)
        if most > 1 and (self.objective.kind.supervised or self.environment is not None):
            what = "processes" if self.processes > 1 else "devices"
            raise ValueError(f"{most} {what}: a supervised job, or one that plays an environment, has one")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of this job."""
        return digest_json(self)

    def most_steps(self, datums: int) -> int:
        """Optimiser steps that it can take over so many datums."""
        if self.environment is not None:
            return self.environment.steps
        return self.epochs * math.ceil(datums / self.minibatch)

    @property
    def reads(self) -> list[Path]:
        """Folders that its trainer reads, besides its run dir."""
        code = self.environment.code if self.environment is not None else None
        return [self.base_model_dir, *(path for path in (self.init_adapter, self.init_critic, code) if path)]


class JobState(StrEnum):
    """Where a job stands."""

    PENDING = "pending"
    """Submitted; no step has begun."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It refused its input, crashed, or ran out of its limits; the error says which."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """No process trains it any more and it isn't finished; submitting again resumes it."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class JobStatus(BaseModel):
    """What `status.json` holds: rewritten after every step. What a trainer can say in it has bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    state: JobState
    step: _Steps = 0
    total_steps: _Steps = 0
    metrics: Annotated[dict[_Metric, float], Field(max_length=64)] = {}
    """Of the last step; the run's course is in `metrics.jsonl`."""
    adapter: Path | None = None
    """Folder of the finished adapter."""
    error: Annotated[str, Field(max_length=_ERROR_LENGTH, pattern=r"^[^\x00]*$")] | None = None
    usage: Usage = Usage()
    """Training steps, and CPU seconds over all the processes that worked on the job."""

    def failed(self, error: str) -> "JobStatus":
        """The status of a job that won't be finished, and why."""
        said = error.replace("\0", "?")[:_ERROR_LENGTH]
        return self.model_copy(update={"state": JobState.FAILED, "error": said, "adapter": None})


def read_status(run_dir: Path) -> JobStatus | None:
    """The last status that was written to a run dir, whoever wrote it and whether or not they live."""
    for _ in range(2):  # one that is replaced just as it is opened isn't taken
        data = read_result(run_dir, "status.json", _STATUS_BYTES)
        if data is not None:
            try:
                return JobStatus.model_validate_json(data)
            except ValidationError:
                return None
    return None
