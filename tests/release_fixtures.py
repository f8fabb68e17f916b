"""Versions to release, and real processes that race or die."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from pawl.core import ArtifactStore, Database, Version
from pawl.release import Registry

TASK = "trimul"


def registered(db: Database, store: ArtifactStore, *prompts: str, task: str = TASK) -> list[str]:
    """Register one version for each prompt and return their ids."""
    registry = Registry(db, store)
    ids: list[str] = []
    for number, prompt in enumerate(prompts):
        scaffold = store.put_tree({"agent.py": b"print()", "prompt.md": prompt.encode()})
        version = Version(scaffold=scaffold, base_model="smollm2")
        ids.append(
            registry.add(
                version,
                task=task,
                parent=ids[-1] if ids else None,
                lever="scaffold" if ids else None,
                campaign="c",
                round=number,
            )
        )
    return ids


def start(program: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a Python program in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={**os.environ, **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def race(program: str, contestants: Sequence[Sequence[str]]) -> list[str]:
    """Run a program once for each list of arguments, let all go at the same moment, and return what each printed.

    The program prints "ready", waits for a line on stdin, acts, and prints one line.
    """
    processes = [start(program, *arguments) for arguments in contestants]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return outputs


def dies(program: str, *arguments: str, fault: str) -> bool:
    """Run a program with a failpoint; tells whether the failpoint killed it, and refuses any other failure."""
    process = start(program, *arguments, env={"PAWL_FAULT": fault})
    process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode == -signal.SIGKILL


def store_at(folder: Path) -> ArtifactStore:
    """An artefact store below a folder."""
    return ArtifactStore(folder / "artifacts")
