"""Not exercised: no job has run through this file. SkyPilot's managed jobs as an engine, after its documentation.

    backend = SkyPilotBackend(Path("/shared/runs"), Path("trainer.yaml"))

`trainer.yaml` is a SkyPilot task without `run`: resources, a `setup` that installs Pawl, and `file_mounts` that show
the bucket or volume of the run dirs and base models at the paths that they have here. SkyPilot starts a preempted job
again by itself on another machine, where it goes on from its last checkpoint; what it gives up on, the next `submit`
takes on. Between machines that don't see each other's locks at once, it is SkyPilot that has one run at a time.
"""

# pyright: reportMissingImports=false

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core import BackendUnavailable
from ...safety.sandbox import Limits
from ..job import TrainJob
from .engine import EngineBackend, EngineState
from .library import need

_WAITING = frozenset({"PENDING", "DEPRECATED_SUBMITTED", "SUBMITTED", "STARTING", "RECOVERING"})
_RUNNING = frozenset({"RUNNING", "CANCELLING"})


class SkyPilotEngine:
    """SkyPilot's managed jobs; see `SkyPilotBackend` for the arguments."""

    def __init__(self, task: Path, python: str = "python") -> None:
        self._sky: Any = need("sky", "skypilot")
        self._jobs: Any = need("sky.jobs", "skypilot")
        self._task, self._python = task, python

    def start(self, name: str, argv: Sequence[str], job: TrainJob) -> str:
        """See `Engine.start`; a job of this name that is in the queue is the one."""
        for row in self._queue():
            if row["job_name"] == name:
                return str(row["job_id"])
        task = self._sky.Task.from_yaml(str(self._task))
        task.name = name
        task.run = shlex.join([self._python, *argv])
        number, _ = self._get(self._jobs.launch(task, name=name))
        return str(number)

    def state(self, number: str) -> EngineState:
        """See `Engine.state`."""
        for row in self._queue():
            if str(row["job_id"]) == number:
                status = str(getattr(row["status"], "value", row["status"]))
                if status in _WAITING:
                    return EngineState.QUEUED
                return EngineState.RUNNING if status in _RUNNING else EngineState.ENDED
        return EngineState.UNKNOWN

    def stop(self, number: str) -> None:
        """See `Engine.stop`."""
        self._get(self._jobs.cancel(job_ids=[int(number)]))

    def _queue(self) -> list[Any]:
        return list(self._get(self._jobs.queue(refresh=False)))

    def _get(self, request: Any) -> Any:
        """Wait for a request to SkyPilot's server."""
        try:
            return self._sky.get(request)
        except Exception as error:
            raise BackendUnavailable(
                f"SkyPilot refused ({type(error).__name__}: {error}). See `sky api info` and `sky check`."
            ) from error


class SkyPilotBackend(EngineBackend):
    """Training jobs as SkyPilot's managed jobs. Not exercised."""

    def __init__(self, runs: Path, task: Path, limits: Limits | None = None, *, python: str = "python") -> None:
        """Make a backend.

        Args:
            runs: folder of the run dirs, which `task` shows at this path.
            task: YAML of a SkyPilot task without `run`.
            limits: of one attempt.
            python: the Python there that has Pawl.

        Raises:
            ConfigurationError: SkyPilot is not installed.
        """
        # A bucket shows what was written after a while, so a beat may be a minute old.
        super().__init__(runs, SkyPilotEngine(task, python), limits, stale_seconds=180.0)
