"""The command line: quick to answer, plain when piped, JSON for programs, clear when something is wrong."""

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from pawl.cli.main import main

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "run",
    "pending",
    "approve",
    "reject",
    "respond",
    "resume",
    "work",
    "status",
    "history",
    "cost",
    "report",
    "fork",
    "rollback",
)


def pawl(*words: str, home: Path | None = None, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    where = ("--home", str(home)) if home is not None else ()
    return subprocess.run(
        [sys.executable, "-m", "pawl.cli.main", *words, *where], capture_output=True, text=True, cwd=cwd, check=False
    )


def here(*words: str, home: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """The same without a process of its own, which takes seconds to import what a command needs."""
    where = ("--home", str(home)) if home is not None else ()
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["pawl", *words, *where]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def test_help_costs_little_and_loads_nothing_heavy(tmp_path: Path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = pawl("--help", cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert all(f"  {command} " in done.stdout for command in (*COMMANDS, "stop", "go", "tasks", "doctor"))
    assert (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3 * 3
    )  # CPU, with room for a slow one
    script = (
        "import sys, pawl.cli.main as m\n"
        "try: m.app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'langgraph', 'sqlalchemy', 'pydantic', 'openai', 'transformers'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert loaded.stderr.strip() == "[]"


@pytest.mark.parametrize("command", [*COMMANDS, "stop", "go", "tasks", "doctor"])
def test_every_command_offers_json(command: str):
    done = here(command, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout


def test_an_unknown_task_is_refused_with_those_that_there_are(tmp_path: Path):
    done = pawl("run", "chess", home=tmp_path / "home")
    assert done.returncode == 1
    assert "No task 'chess'" in done.stderr
    assert "labels, trimul" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_ids_and_channels_are_named(tmp_path: Path):
    home = tmp_path / "home"
    for words, message in (
        (("status", "nobody"), "No campaign 'nobody'"),
        (("resume", "nobody"), "No campaign 'nobody'"),
        (("approve", "nobody", "x", "--as", "ada", "--reason", "r"), "No campaign 'nobody'"),
        (("rollback", "trimul/live"), "nothing to go back to"),
        (("rollback",), "Name the channel"),
        (("rollback", "trimul"), "is no channel"),
    ):
        done = here(*words, home=home)
        assert done.returncode == 1, words
        assert message in done.stderr, words
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budget-usd", "-5"), "is no limit"),
        (("--budget-minutes", "nan"), "is no limit"),
        (("--seed", "9" * 26), "expected 0 to 2**63 - 1"),
        (("--campaign", "../../elsewhere"), "can't name a campaign"),
    ],
)
def test_what_a_campaign_can_not_start_with_is_told_and_nothing_is_made(tmp_path: Path, words, message):
    done = here("run", "labels", *words, home=tmp_path / "home")
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(here("history", "--json", home=tmp_path / "home").stdout) == []


def test_a_stop_of_a_campaign_that_is_not_there_is_refused(tmp_path: Path):
    done = here("stop", "labels-x", "--reason", "drill", home=tmp_path / "home")
    assert (done.returncode, "No campaign 'labels-x'" in done.stderr) == (1, True)


def test_a_missing_argument_is_a_usage_error():
    assert here("approve", "c").returncode == 2


def test_looking_at_an_empty_home_is_json_for_programs_and_words_for_people(tmp_path: Path):
    home = tmp_path / "home"
    assert json.loads(here("pending", "--json", home=home).stdout) == []
    assert here("pending", home=home).stdout == "Nothing waits.\n"
    assert json.loads(here("history", "--json", home=home).stdout) == []
    assert json.loads(here("tasks", "--json").stdout) == ["labels", "trimul"]


def test_stop_and_go_are_told(tmp_path: Path):
    home = tmp_path / "home"
    assert json.loads(here("stop", "--reason", "drill", "--json", home=home).stdout) == {"stopped": "all"}
    assert json.loads(here("go", "--json", home=home).stdout) == {"lifted": True}
    assert json.loads(here("go", "--json", home=home).stdout) == {"lifted": False}


def test_the_doctor_says_what_is_here(tmp_path: Path):
    done = pawl("doctor", "--json", home=tmp_path / "home")
    found = {each["what"]: each for each in json.loads(done.stdout)}
    assert {"GPU", "sandbox", "local extra", "model endpoint", "database"} <= set(found)
    assert done.returncode == (0 if found["sandbox"]["present"] else 1)


@pytest.mark.parametrize("where", ["root", pytest.param("elsewhere", marks=pytest.mark.slow)])
def test_the_stack_imports_from_the_repository_and_from_elsewhere(where: str, tmp_path: Path):
    script = "import pawl, trl, transformers; from transformers import LlamaForCausalLM"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT if where == "root" else tmp_path, env=environment, check=True
    )
