"""`pawl kernel`: what it prints for programs, what for people, and what its exit codes mean."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pawl.cli.main import app
from pawl.kernels import FailureClass, Report, Status, find_problem
from pawl.kernels.summary import summarise
from pawl.safety.sandbox import local

PROBLEM = find_problem("softmax")
SEED = PROBLEM.seed_source()
SHAPES = [str(variant) for variant in PROBLEM.benchmark()]
TIME = {"basis", "device", "geomean_us", "per_shape", "interval_us", "floor_us"}
LAUNCH = {"kernel", "programs", "time_us", "bound", "breakdown_us", "host_us", "waits", "resources"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that all commands share, as a user's would: what one has worked out the next looks up."""
    return tmp_path_factory.mktemp("home")


def kernel(*words: "str | Path", home: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pawl.cli.main", "kernel", *map(str, words), "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def seed(home: Path) -> Path:
    file = home / "seed.py"
    file.write_text(SEED)
    return file


def test_verify_prints_exactly_what_is_promised_on_one_line_and_tells_on_stderr_how_far_it_is(home: Path, seed: Path):
    done = kernel("verify", seed, "--problem", "softmax", "--json", home=home)
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    told = json.loads(line)
    assert set(told) == {"status", "reasons", "correctness", "resources", "time"}
    assert (told["status"], told["reasons"]) == ("accepted", [])
    assert set(told["correctness"]) == {"cases", "passed", "worst_relative_l2"}
    assert told["correctness"]["passed"] == len(told["correctness"]["cases"]) > 4
    assert 0 < told["correctness"]["worst_relative_l2"] < 1e-6
    assert set(told["resources"]) == {"softmax"}
    assert set(told["resources"]["softmax"]) == {"registers", "shared", "spills", "warps", "blocks"}
    time = told["time"]
    assert set(time) == TIME
    assert time["basis"] == "estimated"
    assert "H100" in time["device"]
    assert set(time["per_shape"]) == set(time["floor_us"]) == set(time["interval_us"]) == set(SHAPES)
    for shape, (low, high) in time["interval_us"].items():
        assert time["floor_us"][shape] < time["per_shape"][shape]
        assert low < time["per_shape"][shape] < high
    assert math.isclose(time["geomean_us"], math.prod(time["per_shape"].values()) ** (1 / len(SHAPES)))
    assert [f"{number} of {len(SHAPES)}" in done.stderr for number in range(1, len(SHAPES) + 1)] == [True] * len(SHAPES)


def test_estimate_prints_each_launch_with_its_breakdown_and_an_interval_for_each_shape(home: Path, seed: Path):
    done = kernel("estimate", seed, "--problem", "softmax", "--shapes", "benchmark", "--json", home=home)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {"time", "reasons", "launches"}
    assert set(told["time"]) == TIME
    assert set(told["time"]["interval_us"]) == set(told["launches"]) == set(SHAPES)
    for shape, launches in told["launches"].items():
        assert all(set(launch) == LAUNCH for launch in launches)
        assert sum(launch["time_us"] for launch in launches) <= told["time"]["per_shape"][shape]
        assert all(math.isclose(sum(each["breakdown_us"].values()), each["time_us"]) for each in launches)
    said = kernel("estimate", seed, "--problem", "softmax", home=home).stdout
    assert "estimated, H100" in said
    assert "waits for" in said


def test_a_rejected_kernel_exits_with_1_and_the_reason_stands_first(home: Path):
    leaning = home / "leaning.py"
    leaning.write_text(
        SEED.replace("custom_kernel", "right") + "\n\ndef custom_kernel(x):\n    return right(x) * 1.01\n"
    )
    done = kernel("verify", leaning, "--problem", "softmax", "--json", home=home)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["status"] == "rejected"
    assert [reason.split(":")[0] for reason in told["reasons"]] == [FailureClass.WRONG_RESULT]
    assert told["correctness"]["passed"] == 0 < len(told["correctness"]["cases"])
    assert told["time"]["geomean_us"] is None
    assert told["time"]["per_shape"] == {}
    said = kernel("verify", leaning, "--problem", "softmax", home=home)
    assert said.returncode == 1
    assert said.stdout.splitlines()[0] == f"rejected: {leaning}"
    assert said.stdout.splitlines()[1].startswith("  wrong-result: ")


def test_bad_usage_exits_with_2_and_names_what_is_wrong(home: Path, seed: Path):
    broken, empty = home / "broken", home / "empty"
    broken.mkdir()
    (broken / "task.yml").write_text("tests: [\n")
    empty.mkdir()
    for words, found in (
        (("verify", home / "nothing.py", "--problem", "softmax"), f"{home / 'nothing.py'} can't be read"),
        (("verify", home, "--problem", "softmax"), f"{home} can't be read"),
        (("verify", seed, "--problem", "chess"), "No kernel problem 'chess'"),
        (("estimate", seed, "--problem", "./chess"), "chess: no such file or folder"),
        (("estimate", seed, "--problem", broken), str(broken / "task.yml")),
        (("verify", seed, "--problem", empty), str(empty / "task.yml")),
        (("verify", seed, "--problem", seed), f"{seed}: it lacks Model"),
        (("verify", seed, "--shapes", "every"), "'every' is not one of"),
    ):
        done = CliRunner().invoke(app, ["kernel", *map(str, words), "--home", str(home)])
        assert done.exit_code == 2, (words, done.output)
        assert found in done.stderr, words
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_what_keeps_a_verdict_from_being_reached_exits_with_3(
    tmp_path: Path, seed: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(local, "why_not", lambda isolation: "not here")
    done = CliRunner().invoke(app, ["kernel", "verify", str(seed), "--problem", "softmax", "--home", str(tmp_path)])
    assert done.exit_code == 3, done.output
    assert "could not be judged: This machine offers no sandbox" in done.stderr
    (tmp_path / "verifications").mkdir()
    (tmp_path / "verifications" / "secret").mkdir()
    monkeypatch.undo()
    done = CliRunner().invoke(app, ["kernel", "verify", str(seed), "--problem", "softmax", "--home", str(tmp_path)])
    assert done.exit_code == 3, "an error of Pawl's own is no verdict either"


def test_a_file_that_does_not_parse_needs_no_process_to_be_rejected(tmp_path: Path):
    (tmp_path / "broken.py").write_bytes(b"def custom_kernel(data:\n\xff")
    done = CliRunner().invoke(
        app, ["kernel", "verify", str(tmp_path / "broken.py"), "--problem", "softmax", "--home", str(tmp_path)]
    )
    assert done.exit_code == 1
    assert "syntax-error" in done.stdout


def test_problems_lists_those_in_the_house():
    done = CliRunner().invoke(app, ["kernel", "problems", "--json"])
    assert {"trimul", "softmax", "layer_norm", "matmul", "cross_entropy", "attention"} <= set(json.loads(done.stdout))


def test_a_call_that_does_nothing_has_a_time_of_nought_and_no_mean():
    variants = PROBLEM.benchmark()[:2]
    idle = [Report(status=Status.ACCEPTED, time_us=0.0, floor_us=1.0, device="H100") for _ in variants]
    time = summarise(PROBLEM, variants, idle).time
    assert set(time.per_shape.values()) == {0.0}
    assert time.geomean_us is None
