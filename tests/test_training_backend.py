"""The local backend: one job an id, in the sandbox, found again by whoever submits it again."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pawl.core import ConfigurationError, Conflict, NotFound, Usage
from pawl.safety import Command, Isolation, Mount, Result, Sandbox, Use, default_sandbox
from pawl.safety.sandbox.local import LocalSandbox
from pawl.training import (
    JobHandle,
    JobState,
    JobStatus,
    LocalBackend,
    RunDir,
    TrainerBackend,
    TrainJob,
    adapter_files,
    write_datums,
)
from pawl.training.__main__ import main
from pawl.training.watched import WatchedRun

from .training_fixtures import adapter_bytes, make_job, make_run, some_datums, torch_settings, trainee_dir

__all__ = ["torch_settings", "trainee_dir"]

CONTROLLER = """
import asyncio, sys
from pathlib import Path
from pawl.safety import default_sandbox
from pawl.training import LocalBackend, TrainJob, read_datums

async def main(runs, job, datums):
    backend = LocalBackend(Path(runs), default_sandbox())
    handle = backend.submit(TrainJob.model_validate_json(job), list(read_datums(Path(datums))))
    print("submitted", flush=True)
    await backend.wait(handle)

asyncio.run(main(*sys.argv[1:]))
"""


class CountingSandbox:
    """The real sandbox, and how often it was asked."""

    def __init__(self, program: str | None = None) -> None:
        self.inner: Sandbox = default_sandbox()
        self.commands: list[Command] = []
        self.program = program
        """What to run in the trainer's place, in its run dir."""

    @property
    def layers(self) -> frozenset[object]:
        return self.inner.layers

    async def run(self, command: Command) -> Result:
        self.commands.append(command)
        if self.program is not None:
            script = f"cd {command.argv[-1]} && {self.program}"
            command = command.model_copy(update={"argv": ("/bin/sh", "-c", script)})
        return await self.inner.run(command)


@pytest.fixture
def sandbox() -> CountingSandbox:
    return CountingSandbox()


def long_job(base: Path, name: str) -> TrainJob:
    """Enough steps to be met in the middle."""
    return make_job(base, name, epochs=16)


def unbroken(folder: Path, job: TrainJob) -> dict[str, bytes]:
    """The adapter of the same job, trained in this process without a break."""
    from pawl.training.loop import train

    run = make_run(folder, job, some_datums())
    train(run)
    return adapter_bytes(run)


@pytest.fixture
def controller(tmp_path: Path, trainee_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that submits the job `killed` and waits for it."""
    write_datums(tmp_path / "datums.jsonl", some_datums())
    text = long_job(trainee_dir, "killed").model_dump_json()
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(tmp_path / "runs"), text, str(tmp_path / "datums.jsonl")],
        stdout=subprocess.PIPE,
    )
    yield process
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


async def step_of(run: RunDir, step: int) -> JobStatus:
    """Wait until a job has done so many steps."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = run.status()
        if status is not None and status.step >= step:
            return status
        await asyncio.sleep(0.02)
    raise AssertionError(f"not at step {step} within a minute: {run.status()}")


@pytest.mark.usefixtures("torch_settings")
async def test_a_job_whose_controller_was_killed_is_resumed_to_the_same_bytes(
    controller: subprocess.Popen[bytes], sandbox: CountingSandbox, tmp_path: Path, trainee_dir: Path
) -> None:
    run = RunDir(tmp_path / "runs" / "killed")
    met = await step_of(run, 5)
    assert met.state is JobState.RUNNING
    os.kill(controller.pid, signal.SIGKILL)
    controller.wait()
    backend: TrainerBackend = LocalBackend(tmp_path / "runs", sandbox)
    handle = JobHandle(id="killed", run_dir=run.path)
    for _ in range(200):  # the trainer dies with its controller
        if backend.poll(handle).state is JobState.LOST:
            break
        await asyncio.sleep(0.02)
    lost = backend.poll(handle)
    assert lost.state is JobState.LOST
    assert 5 <= lost.step < lost.total_steps == 48
    job = long_job(trainee_dir, "killed")
    assert backend.submit(job, some_datums()) == handle
    seen: list[JobStatus] = []
    status = await backend.wait(handle, seen.append)
    assert status.state is JobState.SUCCEEDED, status.error
    assert min(each.step for each in seen if each.state is JobState.RUNNING) >= 5  # it went on, and did not start over
    assert adapter_files(status) == unbroken(tmp_path / "whole", job)
    assert sorted(adapter_files(status)) == ["adapter_config.json", "adapter_model.safetensors"]
    assert backend.submit(job, some_datums()) == handle  # finished: nothing is done twice
    assert LocalBackend(tmp_path / "runs", sandbox).poll(handle) == status
    [command] = sandbox.commands
    assert command.use is Use.TRAINING
    assert [mount.path for mount in command.mounts if mount.writable] == [handle.run_dir]
    assert not [name for name in command.env if "KEY" in name or "TOKEN" in name]


async def test_the_same_id_attaches_and_other_input_conflicts(tmp_path: Path, trainee_dir: Path) -> None:
    backend = LocalBackend(tmp_path / "runs", CountingSandbox("kill -KILL $$"))
    job = make_job(trainee_dir, "twice")
    handle = backend.submit(job, some_datums())
    assert backend.poll(handle).state is JobState.PENDING
    assert backend.submit(job, some_datums()) == handle
    with pytest.raises(Conflict, match="other settings"):
        backend.submit(make_job(trainee_dir, "twice", epochs=4), some_datums())
    with pytest.raises(Conflict, match="other datums"):
        backend.submit(job, some_datums()[1:])
    await backend.wait(handle)


async def lost_again_and_again(backend: LocalBackend, job: TrainJob, most: int) -> JobStatus:
    """Submit a job, as its campaign does, until it is no longer lost."""
    for _ in range(most):
        status = await backend.wait(backend.submit(job, some_datums()))
        if status.state is not JobState.LOST:
            return status
    raise AssertionError(f"still tried after {most} times")


@pytest.mark.parametrize(
    ("program", "said"), [("kill -KILL $$", "SIGKILL"), ("kill -XCPU $$", "SIGXCPU"), ("exit 0", "status 0")]
)
async def test_a_trainer_that_dies_again_and_again_fails_its_job_by_the_signals_name(
    program: str, said: str, tmp_path: Path, trainee_dir: Path
) -> None:
    job = make_job(trainee_dir, "dies")
    sandbox = CountingSandbox(program)
    first = LocalBackend(tmp_path / "runs", sandbox)
    assert (await first.wait(first.submit(job, some_datums()))).state is JobState.LOST
    status = await lost_again_and_again(LocalBackend(tmp_path / "runs", sandbox), job, most=5)
    assert status.state is JobState.FAILED
    assert f"ended by {said} 3 times" in str(status.error)
    assert len(sandbox.commands) == 3, "what another controller saw is counted"


async def test_a_trainer_that_gets_further_each_time_before_it_dies_is_started_again(
    tmp_path: Path, trainee_dir: Path
) -> None:
    """The double trains nothing: it writes checkpoints of one step each, as the real one does, and dies."""
    where = {"seed": 0, "job_digest": "", "data_digest": "", "base_digest": "", "cpu_seconds": 0.0}
    state = json.dumps({"step": 0, "consumed": 0, **where}).replace('"step": 0', '"step": %d').replace('"', '\\"')
    program = f"""
        n=$(($(ls -d step_* 2>/dev/null | wc -l) + 1)); mkdir step_$n
        printf "{state}" $n > step_$n/state.json; echo "{{\\"step\\": $n}}" >> checkpoints.jsonl
        if [ $n = 6 ]; then echo '{{"state": "succeeded", "step": 6}}' > status.json; else kill -KILL $$; fi
    """
    sandbox = CountingSandbox(program)
    backend = LocalBackend(tmp_path / "runs", sandbox)
    status = await lost_again_and_again(backend, make_job(trainee_dir, "onward"), most=7)
    assert (status.state, len(sandbox.commands)) == (JobState.SUCCEEDED, 6)


async def test_a_trainer_that_rewrites_its_job_mounts_nothing_more_when_another_process_resumes_it(
    tmp_path: Path, trainee_dir: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    greedy = f"sed -i 's#{trainee_dir}#{secret}#' job.json; kill -KILL $$"
    first = LocalBackend(tmp_path / "runs", CountingSandbox(greedy))
    handle = first.submit(make_job(trainee_dir, "greedy"), some_datums())
    assert (await first.wait(handle)).state is JobState.LOST
    assert str(secret) in (handle.run_dir / "job.json").read_text()
    sandbox = CountingSandbox("true")
    second = LocalBackend(tmp_path / "runs", sandbox)
    await second.wait(second.resume(handle))
    assert [str(mount.path) for mount in sandbox.commands[0].mounts] == [str(handle.run_dir), str(trainee_dir)]


BURN = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
"""Takes a shell some hundredths of a second of CPU time."""


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """Ends also what holds the whole event loop up."""

    def end(number: int, frame: object) -> None:
        raise TimeoutError(f"held up for {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ({"cpu_seconds": -9e6, "training_steps": -1000}, JobState.FAILED),
        ({"cpu_seconds": 1e308}, JobState.FAILED),
        ({"training_steps": 10**30}, JobState.FAILED),
        ({"gpu_seconds": 1, "cpu_seconds": 9e6, "training_steps": 1000, "input_tokens": 7}, JobState.SUCCEEDED),
    ],
)
async def test_a_job_is_billed_what_the_sandbox_measured_whatever_it_says(
    told: dict[str, float], state: JobState, tmp_path: Path, trainee_dir: Path
) -> None:
    program = f"echo '{json.dumps({'state': 'succeeded', 'usage': told})}' > status.json; {BURN}"
    backend = LocalBackend(tmp_path / "runs", CountingSandbox(program))
    status = await backend.wait(backend.submit(make_job(trainee_dir, "bills"), some_datums()))
    assert status.state is state
    assert state is JobState.SUCCEEDED or "status.json" in str(status.error)
    assert 0 < status.usage.cpu_seconds < 5, "measured, and only once it had ended"
    assert status.usage.model_copy(update={"cpu_seconds": 0.0}) == Usage(
        training_steps=9 if state is JobState.SUCCEEDED else 0
    ), "12 datums, 4 a step, 3 epochs"


async def test_the_bill_adds_up_over_the_starts_of_a_job(tmp_path: Path, trainee_dir: Path) -> None:
    job, bills = make_job(trainee_dir, "adds"), [0.0]
    for _ in range(3):  # by a controller of its own each
        backend = LocalBackend(tmp_path / "runs", CountingSandbox(f"{BURN}; kill -KILL $$"))
        status = await backend.wait(backend.submit(job, some_datums()))
        bills.append(status.usage.cpu_seconds)
    assert status.state is JobState.FAILED
    assert bills == sorted(set(bills))


async def test_a_job_chooses_no_work_folder_for_its_next_start(tmp_path: Path, trainee_dir: Path) -> None:
    judge = tmp_path / "judge"
    judge.mkdir(mode=0o700)
    leave = f"echo 1 > $HOME/left; rm -rf work; ln -s {judge} work; kill -KILL $$"
    sandbox = CountingSandbox(leave)
    backend = LocalBackend(tmp_path / "runs", sandbox)
    job = make_job(trainee_dir, "moves")
    handle = backend.submit(job, some_datums())
    await backend.wait(handle)
    sandbox.program = "ls -A $HOME > seen; kill -KILL $$"
    await backend.wait(backend.resume(handle))
    assert (handle.run_dir / "seen").read_text() == "", "fresh for every start"
    for command in sandbox.commands:
        assert not command.work.is_relative_to(handle.run_dir)
        assert not command.work.exists()
    assert judge.stat().st_uid == os.getuid()


@pytest.mark.parametrize("isolation", Isolation)
async def test_the_sandbox_lets_nothing_write_where_a_link_leads(isolation: Isolation, tmp_path: Path) -> None:
    (tmp_path / "aim").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "aim")
    sandbox = LocalSandbox(isolation)
    for work, mounts in (("link", ()), ("aim", (Mount(path=tmp_path / "link", writable=True),))):
        with pytest.raises(ConfigurationError, match="without links"):
            await sandbox.run(
                Command(argv=("/bin/true",), work=tmp_path / work, mounts=mounts, use=Use.TRUSTED),
            )


@pytest.mark.parametrize(
    "leave",
    [
        "mkfifo checkpoints.jsonl",
        "ln -s /dev/zero checkpoints.jsonl",
        "echo '{\"step\": 1}' > checkpoints.jsonl; mkdir step_1; mkfifo step_1/state.json",
        "echo '{\"step\": 1e999}' > checkpoints.jsonl",
        "rm -rf status.json; mkfifo status.json",
        "rm -rf status.json; mkdir status.json",
        "rm -rf job.json rollouts; mkfifo job.json; mkdir rollouts; ln -s /dev/zero rollouts/datums.jsonl",
        "rm -rf lock cancel; mkfifo lock; mkdir cancel",
    ],
)
async def test_nothing_that_a_job_leaves_in_its_run_dir_holds_its_controller_up(
    leave: str, tmp_path: Path, trainee_dir: Path
) -> None:
    job = make_job(trainee_dir, "leaves")
    sandbox = CountingSandbox(f"{leave}; kill -KILL $$")
    with no_longer_than(20):
        for _ in range(4):
            backend = LocalBackend(tmp_path / "runs", sandbox)
            handle = backend.submit(job, some_datums())
            with pytest.raises(Conflict, match="other settings"):
                backend.submit(make_job(trainee_dir, "leaves", epochs=4), some_datums())
            with pytest.raises(Conflict, match="other datums"):
                backend.submit(job, some_datums()[1:])
            status = await backend.wait(handle)
        backend.cancel(handle)
    assert status.state is JobState.FAILED
    assert len(sandbox.commands) <= 4


async def test_checkpoints_that_a_job_makes_up_start_it_no_more_often_than_it_has_steps(
    tmp_path: Path, trainee_dir: Path
) -> None:
    sandbox = CountingSandbox('echo "{\\"step\\": $(date +%s%N)}" > checkpoints.jsonl; kill -KILL $$')
    backend = LocalBackend(tmp_path / "runs", sandbox)
    status = await lost_again_and_again(backend, make_job(trainee_dir, "made-up"), most=5)
    assert status.state is JobState.FAILED


async def test_a_job_that_stops_unasked_has_died(tmp_path: Path, trainee_dir: Path) -> None:
    sandbox = CountingSandbox('echo \'{"state": "cancelled"}\' > status.json; exit 3')
    backend = LocalBackend(tmp_path / "runs", sandbox)
    job = make_job(trainee_dir, "stops")
    seen = [(await backend.wait(backend.submit(job, some_datums()))).state for _ in range(3)]
    assert seen == [JobState.CANCELLED, JobState.CANCELLED, JobState.FAILED]


@pytest.mark.slow  # the program itself, without a sandbox around it, is tried below
async def test_a_refused_job_says_why(sandbox: CountingSandbox, tmp_path: Path, trainee_dir: Path) -> None:
    backend = LocalBackend(tmp_path / "runs", sandbox)
    silent = [datum.model_copy(update={"advantages": [0.0] * len(datum.tokens)}) for datum in some_datums()]
    status = await backend.wait(backend.submit(make_job(trainee_dir, "silent"), silent))
    assert status.state is JobState.FAILED
    assert status.error is not None
    assert "nothing to learn" in status.error


@pytest.mark.usefixtures("torch_settings")
def test_the_program_tells_of_a_refused_job(
    trainee_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = [datum.model_copy(update={"advantages": [0.0] * len(datum.tokens)}) for datum in some_datums()]
    run = make_run(tmp_path, make_job(trainee_dir, "silent"), silent)
    assert main([str(run.path)]) == 2
    gc.unfreeze()  # which the program does for its process
    status = run.status()
    assert status is not None
    assert status.state is JobState.FAILED
    assert "nothing to learn" in str(status.error)
    assert "nothing to learn" in capsys.readouterr().err


async def test_a_second_process_waits_for_the_first(trainee_dir: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, make_job(trainee_dir), some_datums())
    with run.lock():
        assert WatchedRun(run.path).is_held()
        second = subprocess.Popen([sys.executable, "-P", "-m", "pawl.training", str(run.path)])
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(1.5)
        run.write_status(JobStatus(state=JobState.SUCCEEDED))
    assert second.wait(30) == 0  # it found the job finished
    assert not WatchedRun(run.path).is_held()
    assert not run.adapter.exists()


def test_an_unknown_job_is_not_found(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path, default_sandbox())
    with pytest.raises(NotFound, match="submit it first"):
        backend.poll(JobHandle(id="none", run_dir=tmp_path / "none"))


def test_the_program_needs_a_run_dir(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (([], "usage"), ([str(tmp_path / "none")], "usage"), ([str(tmp_path)], "No job.json")):
        assert main(arguments) == 2
        assert words in capsys.readouterr().err


async def test_an_adapter_folder_with_anything_else_in_it_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    weights = folder / "adapter_model.safetensors"
    weights.symlink_to("/etc/passwd")
    status = JobStatus(state=JobState.SUCCEEDED, adapter=folder)
    with pytest.raises(ConfigurationError, match="no plain file"):
        adapter_files(status)
    weights.unlink()
    weights.write_bytes(b"\x80\x05pickled")
    with pytest.raises(ConfigurationError, match="can't be used: a header of"):
        adapter_files(status)
    weights.write_bytes(b"\2\0\0\0\0\0\0\0{}")
    assert adapter_files(status) == {
        "adapter_config.json": b"{}",
        "adapter_model.safetensors": b"\2\0\0\0\0\0\0\0{}",
    }
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ConfigurationError, match="expected adapter_config"):
        adapter_files(status.model_copy(update={"adapter": tmp_path / "link"}))
    (folder / "run.sh").write_text("")
    with pytest.raises(ConfigurationError, match="expected adapter_config"):
        adapter_files(status)
