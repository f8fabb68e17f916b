"""The contract of every backend: over processes as an engine, and, slow, local and over a real Ray of one machine."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pawl.core import BackendUnavailable, ConfigurationError, Conflict, NotFound
from pawl.safety import default_sandbox
from pawl.safety.sandbox.watch import share_of_memory
from pawl.training import (
    JobHandle,
    JobState,
    JobStatus,
    LocalBackend,
    RayBackend,
    RunDir,
    TrainerBackend,
    adapter_files,
)
from pawl.training.attempt import default_limits
from pawl.training.backends import EngineBackend, ModalBackend, SkyPilotBackend
from pawl.training.submission import Submission

from .engines import ProcessEngine
from .training_fixtures import adapter_bytes, make_job, make_run, some_datums, torch_settings, trainee_dir

__all__ = ["torch_settings", "trainee_dir"]

STALE = 6.0
"""Seconds without a beat, of which one comes every two."""


@pytest.fixture
def engine() -> Iterator[ProcessEngine]:
    made = ProcessEngine()
    yield made
    made.lose()


@pytest.fixture(scope="session")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray of one machine, which this process starts and which dies with it."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))  # where Ray leaves the cluster's token
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:  # sockets need short paths
        context = ray.init(
            num_cpus=2,
            include_dashboard=True,
            dashboard_port=0,
            object_store_memory=80 << 20,
            log_to_driver=False,
            _temp_dir=folder,
        )
        yield f"http://{context.dashboard_url}"
        ray.shutdown()
    if before is not None:
        os.environ["HOME"] = before


Made = Callable[[Path], TrainerBackend]


@pytest.fixture(
    params=[pytest.param("local", marks=pytest.mark.slow), "engine", pytest.param("ray", marks=pytest.mark.slow)]
)
def make(request: pytest.FixtureRequest) -> Made:
    """Makes a backend over a folder; every one that it makes is another controller of the same machines."""
    if request.param == "local":
        return lambda runs: LocalBackend(runs, default_sandbox())
    if request.param == "engine":
        engine: ProcessEngine = request.getfixturevalue("engine")
        return lambda runs: EngineBackend(runs, engine, stale_seconds=STALE)
    address: str = request.getfixturevalue("ray_address")
    return lambda runs: RayBackend(runs, address, python=sys.executable, stale_seconds=STALE)


async def step_of(run: RunDir, step: int) -> JobStatus:
    """Wait until a job has done so many steps."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        status = run.status()
        if status is not None and status.step >= step:
            return status
        await asyncio.sleep(0.02)
    raise AssertionError(f"not at step {step} in time: {run.status()}")


async def until(backend: TrainerBackend, handle: JobHandle, state: JobState) -> JobStatus:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = backend.poll(handle)
        if status.state is state:
            return status
        await asyncio.sleep(0.05)
    raise AssertionError(f"not {state} in time: {backend.poll(handle)}")


def processes_with(*arguments: str) -> list[int]:
    """Python processes that were started with all of these arguments."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            argv = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "python" in argv[0] and set(arguments) <= set(argv):
            found.append(int(path.parent.name))
    return found


@pytest.mark.usefixtures("torch_settings")
async def test_a_job_is_submitted_attached_to_cancelled_and_resumed_to_the_same_bytes(
    make: Made, tmp_path: Path, trainee_dir: Path
) -> None:
    from pawl.training.loop import train

    backend = make(tmp_path / "runs")
    job = make_job(trainee_dir, "job", epochs=16)
    handle = backend.submit(job, some_datums())
    assert backend.poll(handle).state in (JobState.PENDING, JobState.RUNNING)
    with pytest.raises(Conflict, match="other settings"):
        backend.submit(make_job(trainee_dir, "job", epochs=4), some_datums())
    with pytest.raises(Conflict, match="other datums"):
        backend.submit(job, some_datums()[1:])
    await step_of(RunDir(handle.run_dir), 3)
    assert backend.submit(job, some_datums()) == handle
    backend.cancel(handle)
    status = await backend.wait(handle)
    assert status.state is JobState.CANCELLED
    assert 3 <= status.step < status.total_steps == 48
    with pytest.raises(ConfigurationError, match="cancelled"):
        adapter_files(status)
    seen: list[JobStatus] = []
    assert backend.submit(job, some_datums()) == handle
    status = await backend.wait(handle, seen.append)
    assert status.state is JobState.SUCCEEDED, status.error
    assert min(each.step for each in seen if each.state is JobState.RUNNING) >= 3, "it went on"
    assert backend.submit(job, some_datums()) == handle, "finished: nothing is done twice"
    assert make(tmp_path / "runs").poll(handle) == status
    record = Submission(handle.run_dir).record()
    assert (record.starts, record.ends, record.deaths) == (2, 2, 0)
    assert status.usage.training_steps == 48
    assert status.usage.cpu_seconds == pytest.approx(record.cpu_seconds, abs=0.01) != 0
    whole = make_run(tmp_path / "whole", job, some_datums())
    train(whole)
    assert adapter_files(status) == adapter_bytes(whole)


@pytest.mark.slow
async def test_a_refused_job_says_why_and_only_resume_tries_it_again(
    make: Made, tmp_path: Path, trainee_dir: Path
) -> None:
    backend = make(tmp_path / "runs")
    job = make_job(trainee_dir, "silent")
    silent = [datum.model_copy(update={"advantages": [0.0] * len(datum.tokens)}) for datum in some_datums()]
    handle = backend.submit(job, silent)
    status = await backend.wait(handle)
    assert status.state is JobState.FAILED
    assert "nothing to learn" in str(status.error)
    backend.submit(job, silent)
    assert backend.poll(handle) == status
    assert Submission(handle.run_dir).record().starts == 1
    backend.resume(handle)
    status = await backend.wait(handle)
    assert (status.state, "nothing to learn" in str(status.error)) == (JobState.FAILED, True)
    assert Submission(handle.run_dir).record().starts == 2


def test_an_unknown_job_is_not_found(make: Made, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="submit it first"):
        make(tmp_path).poll(JobHandle(id="none", run_dir=tmp_path / "none"))


@pytest.mark.slow
async def test_a_job_is_lost_where_its_engine_has_none_and_the_beat_has_stopped_and_goes_on_as_another(
    engine: ProcessEngine, tmp_path: Path, trainee_dir: Path
) -> None:
    backend = EngineBackend(tmp_path / "runs", engine, stale_seconds=STALE)
    job = make_job(trainee_dir, "lost", epochs=16)
    handle = backend.submit(job, some_datums())
    met = await step_of(RunDir(handle.run_dir), 3)
    engine.lose()
    assert backend.poll(handle).state is JobState.RUNNING, "the beat is fresh"
    assert backend.submit(job, some_datums()) == handle
    assert engine.started == ["lost-1"]
    status = await until(backend, handle, JobState.LOST)
    assert status.step >= met.step
    other = EngineBackend(tmp_path / "runs", engine, stale_seconds=STALE)  # which knows but the files
    other.submit(job, some_datums())
    assert other.submit(job, some_datums()) == handle
    assert engine.started == ["lost-1", "lost-2"]
    status = await other.wait(handle)
    assert status.state is JobState.SUCCEEDED, status.error
    record = Submission(handle.run_dir).record()
    assert (record.starts, record.ends) == (2, 1), "nobody saw the first one's end"


@pytest.mark.slow
@pytest.mark.usefixtures("torch_settings")
async def test_a_job_that_ray_says_has_ended_goes_on_under_a_new_submission_to_the_same_bytes(
    ray_address: str, tmp_path: Path, trainee_dir: Path
) -> None:
    from ray.job_submission import JobSubmissionClient

    from pawl.training.loop import train

    backend = RayBackend(tmp_path / "runs", ray_address, python=sys.executable, stale_seconds=STALE)
    job = make_job(trainee_dir, "killed", epochs=16)
    handle = backend.submit(job, some_datums())
    met = await step_of(RunDir(handle.run_dir), 3)
    [launcher] = processes_with("pawl.training.contained", str(handle.run_dir))
    os.kill(launcher, signal.SIGKILL)
    status = await until(backend, handle, JobState.LOST)
    assert met.step <= status.step < 48
    assert not processes_with("pawl.training", str(handle.run_dir)), "the sandbox dies with what started it"
    again = RayBackend(tmp_path / "runs", ray_address, python=sys.executable, stale_seconds=STALE)
    again.submit(job, some_datums())
    status = await again.wait(handle)
    assert status.state is JobState.SUCCEEDED, status.error
    told = {each.submission_id: each.status for each in JobSubmissionClient(ray_address).list_jobs()}
    assert told["killed-1"] == "FAILED"
    assert told["killed-2"] in ("RUNNING", "SUCCEEDED")  # Ray looks now and then
    whole = make_run(tmp_path / "whole", job, some_datums())
    train(whole)
    assert adapter_files(status) == adapter_bytes(whole)


async def test_a_queued_job_waits_is_ended_by_its_engine_and_can_be_submitted_again(
    tmp_path: Path, trainee_dir: Path
) -> None:
    engine = ProcessEngine(hold=True)
    backend = EngineBackend(tmp_path / "runs", engine)
    handle = backend.submit(make_job(trainee_dir, "queued"), some_datums())
    assert backend.poll(handle).state is JobState.PENDING
    backend.cancel(handle)
    assert (backend.poll(handle).state, engine.jobs) == (JobState.CANCELLED, {})
    backend.submit(make_job(trainee_dir, "queued"), some_datums())
    assert (backend.poll(handle).state, list(engine.jobs)) == (JobState.PENDING, ["queued-2"])
    engine.away = True
    backend.cancel(handle)
    assert (handle.run_dir / "cancel").exists(), "for when it begins"


async def test_a_submission_that_was_cut_short_starts_one_job_and_an_engine_that_is_away_is_no_end(
    tmp_path: Path, trainee_dir: Path
) -> None:
    engine = ProcessEngine(hold=True)
    backend = EngineBackend(tmp_path / "runs", engine)
    job = make_job(trainee_dir, "short")
    engine.away = True
    with pytest.raises(BackendUnavailable):
        backend.submit(job, some_datums())
    handle = JobHandle(id=job.id, run_dir=tmp_path / "runs" / job.id)
    assert backend.poll(handle).state is JobState.LOST
    engine.away = False
    backend.submit(job, some_datums())
    backend.submit(job, some_datums())
    assert engine.started == ["short-1"]


async def test_a_job_that_its_engine_ends_before_it_begins_or_loses_at_one_step_fails_after_three_times(
    tmp_path: Path, trainee_dir: Path
) -> None:
    engine = ProcessEngine(program="pass")  # as where Pawl is missing
    backend = EngineBackend(tmp_path / "runs", engine)
    job = make_job(trainee_dir, "never")
    for count in (1, 2, 3):
        assert (await backend.wait(backend.submit(job, some_datums()))).state is JobState.LOST
        assert len(engine.started) == count
    handle = backend.submit(job, some_datums())
    status = backend.poll(handle)
    assert status.state is JobState.FAILED
    assert "ended the job 3 times before a trainer was started; its log of never-3 may say why" in str(status.error)
    begins = (
        "import sys; from pathlib import Path; from pawl.training.submission import Submission\n"
        "job = Submission(Path(sys.argv[4])); job.write(job.record().started())"
    )
    engine.program = begins  # as where the machine dies
    backend.resume(handle)
    for _ in range(2):
        assert (await backend.wait(handle)).state is JobState.LOST
        backend.submit(job, some_datums())
    await backend.wait(handle)
    backend.submit(job, some_datums())
    status = backend.poll(handle)
    assert status.state is JobState.FAILED
    assert "lost with its machine 3 times in a row" in str(status.error)


@pytest.mark.slow
async def test_a_job_that_does_not_stop_within_the_grace_is_ended_by_its_engine(
    engine: ProcessEngine, tmp_path: Path, trainee_dir: Path
) -> None:
    backend = EngineBackend(tmp_path / "runs", engine, stale_seconds=STALE, grace_seconds=0.5)
    job = make_job(trainee_dir, "stubborn", epochs=4000)
    handle = backend.submit(job, some_datums())
    await step_of(RunDir(handle.run_dir), 1)
    Submission(handle.run_dir).beside(".cancel").touch()  # asked, but the trainer sees nothing of it
    status = await backend.wait(handle)
    assert status.state is JobState.CANCELLED
    assert engine.jobs["stubborn-1"] is not None
    assert engine.jobs["stubborn-1"].wait(20) != 0


async def test_what_an_engine_runs_keeps_its_environment_from_the_trainer(tmp_path: Path, trainee_dir: Path) -> None:
    """The double stands for a trainer that tells what it sees."""
    program = (
        "import asyncio, os, pathlib, sys\n"
        "import pawl.training.attempt as attempt\n"
        "from pawl.training.contained import Errand, run\n"
        "from pawl.training.submission import Submission\n"
        "made = attempt.command\n"
        "def command(*arguments):\n"
        "    asked = made(*arguments)\n"
        "    held = asked.limits.total_memory_bytes\n"
        "    told = f'(env; echo HOLDS={held}) > {asked.argv[-1]}/seen'\n"
        "    return asked.model_copy(update={'argv': ('/bin/sh', '-c', told)})\n"
        "attempt.command = command\n"
        "job = Submission(pathlib.Path(sys.argv[1]))\n"
        "errand = Errand(limits=attempt.default_limits(), memory_share=0.5, environment={'TRACEPARENT': '00-1'})\n"
        "asyncio.run(run(job, errand))\n"
    )
    engine = ProcessEngine(hold=True)
    backend = EngineBackend(tmp_path / "runs", engine)
    handle = backend.submit(make_job(trainee_dir, "tells"), some_datums())
    env = {**os.environ, "AN_API_KEY": "secret"}
    subprocess.run([sys.executable, "-c", program, str(handle.run_dir)], env=env, check=True)
    seen = (handle.run_dir / "seen").read_text()
    assert "TRACEPARENT=00-1" in seen
    assert "secret" not in seen
    assert f"HOLDS={share_of_memory(0.5)}" in seen  # of the machine that it runs on


def test_a_job_may_take_the_cpu_time_of_its_threads() -> None:
    limits = default_limits(7200, 16)
    assert (limits.wall_seconds, limits.cpu_seconds) == (7200, 16 * 7200)


class RecordedRay:
    """Stands for Ray's client: what it answers was recorded of Ray 2.60's, what it is asked is kept."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []
        self.statuses: dict[str, str] = {}

    def submit_job(self, **arguments: object) -> str:
        name = str(arguments["submission_id"])
        if name in self.statuses:
            raise RuntimeError("Request failed with status code 500: Traceback (most recent call last):\n  ...")
        self.asked.append(arguments)
        self.statuses[name] = "PENDING"
        return name

    def get_job_status(self, name: str) -> str:
        if name not in self.statuses:
            raise RuntimeError(f"Request failed with status code 404: Job {name} does not exist.\n.")
        return self.statuses[name]

    def stop_job(self, name: str) -> bool:
        self.statuses[name] = "STOPPED"
        return True


async def test_ray_is_asked_for_a_submission_with_the_jobs_resources_and_each_of_its_states_is_understood(
    tmp_path: Path, trainee_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray.job_submission", reason="ray is not installed")
    client = RecordedRay()
    monkeypatch.setattr(ray, "JobSubmissionClient", lambda address: client)
    backend = RayBackend(tmp_path / "runs", "http://head:8265", gpus=1, python="/opt/python")
    job = make_job(trainee_dir, "rayed", processes=2)
    handle = backend.submit(job, some_datums())
    [asked] = client.asked
    assert str(asked.pop("entrypoint")).startswith(
        f'/opt/python -P -m pawl.training.contained {handle.run_dir} \'{{"limits":'
    )
    assert asked == {
        "submission_id": "rayed-1",
        "entrypoint_num_cpus": 2.0,
        "entrypoint_num_gpus": 2,
        "runtime_env": {},
        "metadata": {"pawl_job": "rayed"},
    }
    assert backend.poll(handle).state is JobState.PENDING
    for said in ("SUCCEEDED", "FAILED", "STOPPED"):  # and yet the job isn't finished
        client.statuses["rayed-1"] = said
        again = RayBackend(tmp_path / "runs", "http://head:8265")
        assert again.poll(handle).state is JobState.LOST
    backend.submit(job, some_datums())
    assert [each["submission_id"] for each in client.asked] == ["rayed-1", "rayed-2"]
    ticket = Submission(handle.run_dir).beside(".engine.json")
    known = json.loads(ticket.read_text())
    ticket.write_text(json.dumps({**known, "number": None}))  # the controller died before it was told
    backend.submit(job, some_datums())
    assert json.loads(ticket.read_text()) == known
    assert (known["count"], known["number"]) == (2, "rayed-2")
    backend.cancel(handle)
    assert client.statuses["rayed-2"] == "STOPPED"
    assert backend.poll(handle).state is JobState.CANCELLED


async def test_a_ray_that_is_not_there_is_told_in_words(tmp_path: Path, trainee_dir: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    backend = RayBackend(tmp_path / "runs", "http://127.0.0.1:9")
    with pytest.raises(BackendUnavailable, match=r"http://127.0.0.1:9 didn't submit a job"):
        backend.submit(make_job(trainee_dir, "alone"), some_datums())


@pytest.mark.parametrize(
    ("made", "library"),
    [
        ("ray", lambda runs: RayBackend(runs)),
        ("sky", lambda runs: SkyPilotBackend(runs, runs / "task.yaml")),
        ("modal", lambda runs: ModalBackend(runs, app="pawl", function="train")),
    ],
    ids=["ray", "skypilot", "modal"],
)
def test_a_backend_without_its_library_says_what_to_install(
    made: str, library: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in sys.modules if each.split(".")[0] == made]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, made, None)
    with pytest.raises(ConfigurationError, match=r"needs the library \w+, which isn't installed.* pip install"):
        library(tmp_path)
