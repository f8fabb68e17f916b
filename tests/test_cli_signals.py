"""Ctrl-C and SIGTERM: the first lets the current step end, the second ends at once; either way it can be resumed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pawl.graph.session import Session
from pawl.nodes.spec import NodeSpec
from pawl.release import Status

from .session_fixtures import CAMPAIGN, Served, left_behind, served

RUN = ("run", "labels", "--rounds", "1", "--campaign", CAMPAIGN, "--seed", "4", "--items", "4", "--attempts", "2")


@pytest.fixture(scope="module")
def server() -> Served:
    return served()


def pawl(server: Served, home: Path, *words: str) -> "subprocess.Popen[str]":
    """A command as a person types it, against the model server of the tests."""
    if not (home / "run").exists():
        home.mkdir(exist_ok=True)
        (home / "run").symlink_to(server.home.sockets)
    return subprocess.Popen(
        [sys.executable, "-m", "pawl.cli.main", *words, "--home", str(home)],
        env={**os.environ, "PAWL_MODEL_DIR": str(server.model_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=home.parent,
    )


def until(process: "subprocess.Popen[str]", text: str) -> list[str]:
    """Read its lines up to one with this text."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"it ended without {text!r}:\n{''.join(lines)}")


def test_the_first_signal_drains_the_second_ends_at_once_and_nothing_is_lost(server: Served, tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = pawl(server, home, *RUN)
    lines = until(first, "c: task_agent")
    assert not any("\x1b" in line for line in lines), "plain lines where it is piped"
    first.send_signal(signal.SIGTERM)
    rest = first.communicate(timeout=120)[0]
    assert first.returncode == 0, rest
    assert "Finishing the current step" in rest
    assert "c halted" in rest
    assert "Resume: pawl resume c" in rest
    assert "c: feedback_agent" not in rest
    assert left_behind(home) == []
    with Session.sync(home) as session:
        assert session.status(CAMPAIGN).status is Status.STOPPED

    second = pawl(server, home, "resume", CAMPAIGN)
    until(second, "c: gauntlet")
    second.send_signal(signal.SIGINT)
    until(second, "once more stops at once")
    second.send_signal(signal.SIGINT)
    rest = second.communicate(timeout=120)[0]
    assert second.returncode == 130, rest
    assert "Traceback" not in rest
    assert left_behind(home) == []
    with Session.sync(home) as session:
        status = session.status(CAMPAIGN)
        assert (status.status, status.reason) == (Status.STOPPED, "interrupted")
        assert session.history(CAMPAIGN)[0].next == ["gauntlet"]


@pytest.mark.slow  # tests/test_halts.py has a worker that tells once and is drained
def test_an_idle_worker_ends_at_the_first_signal_and_has_told_once_of_what_it_cannot_run(
    server: Served, tmp_path: Path
) -> None:
    async def run(state: object, runtime: object) -> dict[str, object]:
        return {}

    gone = NodeSpec(name="gone", run=run, after="evaluator", before="feedback_agent")
    home = tmp_path / "home"
    with Session.sync(home, nodes=[gone], plugins=False) as session:
        session.create("labels", campaign="old")
    worker = pawl(server, home, "work")
    until(worker, "old halted")
    time.sleep(2.5)
    worker.send_signal(signal.SIGTERM)
    rest = worker.communicate(timeout=30)[0]
    assert worker.returncode == 0, rest
    assert "old halted" not in rest
