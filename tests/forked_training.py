"""Trainers in processes of their own, forked from one that has imported torch. Import the fixture by name."""

import atexit
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pawl.training import RunDir


class ForkedTrainers:
    """Speaks to `child_training`."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", str(Path(__file__).with_name("child_training.py"))]
        self._program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def train(self, run: RunDir, fault: str | None = None) -> int:
        """Train a run dir in a process that dies at the failpoint, and return how it ended."""
        return self._ask({"run": str(run.path), "fault": fault})

    def train_together(self, run: RunDir, ranks: int) -> int:
        """Train a run dir in several processes, and return how the first that failed ended, or 0."""
        return self._ask({"run": str(run.path), "ranks": ranks})

    def close(self) -> None:
        """End the program."""
        self._program.communicate()

    def _ask(self, request: dict[str, object]) -> int:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(request) + "\n")
        self._program.stdin.flush()
        return json.loads(self._program.stdout.readline())["status"]


@functools.cache
def _trainers() -> ForkedTrainers:
    trainers = ForkedTrainers()
    atexit.register(trainers.close)
    return trainers


@pytest.fixture(scope="session")
def trainers() -> ForkedTrainers:
    """One for all modules of this process that import this fixture."""
    return _trainers()
