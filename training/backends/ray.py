"""Ray Jobs: an engine over a Ray cluster whose machines share the file system of the run dirs.

    backend = RayBackend(Path("/shared/runs"), "http://head:8265", gpus=1)

Ray runs a job once and forgets it with its cluster; what is left undone goes on as another of its jobs. Every machine
needs Pawl at the same version under `python`. Where the cluster asks for a token, which a local one does since Ray
2.59, Ray's client takes it from RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token, as the `ray` command does.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ...core import BackendUnavailable
from ...safety.sandbox import Limits
from ..job import TrainJob
from .engine import GRACE_SECONDS, STALE_SECONDS, EngineBackend, EngineState
from .library import need

ANSWER_SECONDS = 20.0
"""How long a request may take; Ray's client has no limit of its own."""

_T = TypeVar("_T")
_STATES: Mapping[str, EngineState] = {"PENDING": EngineState.QUEUED, "RUNNING": EngineState.RUNNING}


class RayEngine:
    """Ray's job submission; see `RayBackend` for the arguments."""

    def __init__(
        self,
        address: str | None,
        *,
        gpus: float = 0.0,
        python: str = "python",
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        self._module = need("ray.job_submission", "ray", "ray")
        self._address, self._gpus, self._python = address, gpus, python
        self._runtime_env = dict(runtime_env or {})
        self._client: Any = None
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="ray")

    def start(self, name: str, argv: Sequence[str], job: TrainJob) -> str:
        """See `Engine.start`."""
        arguments: dict[str, Any] = {
            "entrypoint": shlex.join([self._python, *argv]),
            "submission_id": name,
            "entrypoint_num_cpus": float(job.threads * job.processes),
            "runtime_env": self._runtime_env,
            "metadata": {"pawl_job": job.id},
        }
        if self._gpus:
            arguments["entrypoint_num_gpus"] = self._gpus * job.processes * job.devices
        try:
            return str(self._ask("submit a job", lambda client: client.submit_job(**arguments)))
        except BackendUnavailable:
            with suppress(BackendUnavailable):
                if self.state(name) is not EngineState.UNKNOWN:  # the controller died before it wrote that down
                    return name
            raise

    def state(self, number: str) -> EngineState:
        """See `Engine.state`."""
        try:
            status = self._ask("tell of a job", lambda client: client.get_job_status(number))
        except BackendUnavailable as error:
            if "status code 404" in str(error):
                return EngineState.UNKNOWN
            raise
        return _STATES.get(str(getattr(status, "value", status)), EngineState.ENDED)

    def stop(self, number: str) -> None:
        """See `Engine.stop`."""
        if self.state(number) is not EngineState.UNKNOWN:
            self._ask("stop a job", lambda client: client.stop_job(number))

    def _ask(self, what: str, request: Callable[[Any], _T]) -> _T:
        """One request, in a thread so that it ends.

        Raises:
            BackendUnavailable: nothing answered in time, or Ray refused.
        """

        def asked() -> _T:
            if self._client is None:
                self._client = self._module.JobSubmissionClient(self._address)
            return request(self._client)

        try:
            return self._threads.submit(asked).result(ANSWER_SECONDS)
        except (RuntimeError, OSError, ValueError, TimeoutError) as error:  # requests' errors are OSErrors
            said = (str(error).strip().splitlines() or ["no answer"])[-1].rstrip(". ")
            raise BackendUnavailable(
                f"Ray at {self._address or 'its default address'} didn't {what}: {said}. Check the address of its "
                f"dashboard ({type(error).__name__}), and that this process has its token."
            ) from error


class RayBackend(EngineBackend):
    """Training jobs on a Ray cluster, each in the sandbox of the machine that Ray chooses."""

    def __init__(
        self,
        runs: Path,
        address: str | None = None,
        limits: Limits | None = None,
        *,
        gpus: float = 0.0,
        python: str = "python",
        runtime_env: Mapping[str, Any] | None = None,
        stale_seconds: float = STALE_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """Make a backend; Ray is asked only when there is a job.

        Args:
            runs: folder of the run dirs, shared by the cluster's machines at this path.
            address: of the dashboard, "http://HOST:8265"; Ray's own rules where there is none.
            limits: of one attempt.
            gpus: for each device of each of a job's processes; its threads are asked for as CPUs.
            python: the Python on the machines that has Pawl.
            runtime_env: Ray's, for the launcher; the trainer in its sandbox sees nothing of it.
            stale_seconds: see `EngineBackend`.
            grace_seconds: see `EngineBackend`.

        Raises:
            ConfigurationError: Ray is not installed.
        """
        engine = RayEngine(address, gpus=gpus, python=python, runtime_env=runtime_env)
        super().__init__(runs, engine, limits, stale_seconds=stale_seconds, grace_seconds=grace_seconds)
