"""An engine for tests: it starts what it is given as processes of this machine, and knows them while it lives.

It stands for a cluster that isn't there: its jobs are real processes in the real sandbox, but its queue and its
forgetting are its own.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from pawl.core import BackendUnavailable
from pawl.training import TrainJob
from pawl.training.backends import EngineState


class ProcessEngine:
    """Processes of this machine, by the names that they were given."""

    def __init__(self, *, hold: bool = False, program: str | None = None) -> None:
        self.started: list[str] = []
        self.jobs: dict[str, subprocess.Popen[bytes] | None] = {}
        self.hold = hold
        """Whether jobs stay in the queue."""
        self.program = program
        """What to run in the place of what it is given."""
        self.away = False
        """Whether nobody answers."""

    def start(self, name: str, argv: Sequence[str], job: TrainJob) -> str:
        self._answer()
        if name not in self.jobs:
            self.started.append(name)
            env = {**os.environ, "AN_API_KEY": "secret", "OMP_NUM_THREADS": "1"}
            command = [sys.executable, *(("-c", self.program, *argv) if self.program is not None else argv)]
            self.jobs[name] = None if self.hold else subprocess.Popen(command, env=env, start_new_session=True)
        return name

    def state(self, number: str) -> EngineState:
        self._answer()
        if number not in self.jobs:
            return EngineState.UNKNOWN
        process = self.jobs[number]
        if process is None:
            return EngineState.QUEUED
        return EngineState.RUNNING if process.poll() is None else EngineState.ENDED

    def stop(self, number: str) -> None:
        self._answer()
        process = self.jobs.get(number)
        if process is None:
            self.jobs.pop(number, None)
        elif process.poll() is None:
            process.terminate()

    def lose(self) -> None:
        """Die as a cluster does, with all that runs on it."""
        for process in self.jobs.values():
            if process is not None and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.jobs.clear()

    def _answer(self) -> None:
        if self.away:
            raise BackendUnavailable("Nobody answers.")
