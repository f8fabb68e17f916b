# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
"""A job of more than one process: `python -m pawl.training RUN_DIR` starts the others by torchrun, on this machine.

The first process holds the run dir's lock and trains nothing; `python -m pawl.training.rank RUN_DIR`, as often as the
job has processes, does. When one of them dies the rest are ended, and then this one ends as that one did, so that
whoever started the job sees one process that died, and starts it again at its last checkpoint.
"""

import os
import signal
import sys
from typing import Any

from ..core import ConfigurationError
from ..safety.telemetry.jobs import JobSpans
from .job import JobStatus
from .rundir import RunDir


class RankFailed(Exception):
    """A process of the job ended with an error, which is this one's message."""


def train_ranks(run: RunDir, spans: JobSpans | None = None) -> JobStatus:
    """Train the run dir's job with all of its processes, and return the final status.

    Args:
        run: the run dir, whose lock the caller holds.
        spans: not used here: rank 0 keeps the times of the parts.

    Raises:
        ConfigurationError: the job or its datums can't be used.
        RankFailed: one of the processes crashed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    job = run.job()
    if job.objective.kind.supervised or job.environment is not None:
        what = "in an environment" if job.environment is not None else f"by the objective {job.objective.kind}"
        raise ConfigurationError(
            f"A job {what} is trained by a single process, and this one asks for {job.processes}: set processes=1."
        )
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(variable, "lo")  # they are all here, and the sandbox has no other
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=job.processes,
        run_id=job.id,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(),
    )
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "pawl.training.rank", str(run.path))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            print(
                f"Process {rank} of {job.processes} was ended by {failure.signal_name()}.", file=sys.stderr, flush=True
            )
            _end_by(-failure.exitcode)
        message = _said(failure.message)
        kind, _, words = message.partition(": ")
        if kind == ConfigurationError.__name__:
            raise ConfigurationError(words) from error
        raise RankFailed(f"process {rank} of {job.processes}: {message}") from error
    status = run.status()
    assert status is not None, "rank 0 has written it"
    return status


def _said(message: str | dict[str, Any]) -> str:
    """The error's type and words, which are in the file that a rank leaves, if it could."""
    return str(message["message"]) if isinstance(message, dict) else message


def _end_by(number: int) -> None:
    """End this process by a signal, whatever it would do about it."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
