"""A run dir that fills up in the middle of a checkpoint, on a disk of its own, and what else a run dir may hold."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pawl.core import ConfigurationError
from pawl.safety import default_sandbox
from pawl.training import JobState, LocalBackend, RunDir, adapter_files
from pawl.training.attempt import default_limits
from pawl.training.loop import train
from pawl.training.record import read_record
from pawl.training.submission import Submission

from .training_fixtures import adapter_bytes, make_job, make_run, some_datums, torch_settings, trainee_dir

__all__ = ["torch_settings", "trainee_dir"]
pytestmark = pytest.mark.usefixtures("torch_settings")

ON_A_DISK = """
set -e
mount -t tmpfs -o size=$2k disk "$1/disk"
cp -r "$1/run/." "$1/disk"
{ set +e; "$3" -P -m pawl.training "$1/disk" 2> "$1/said"; echo $? > "$1/status"; set -e; }
cp -r "$1/disk/." "$1/found"
"""
"""In mounts of its own: a trainer on a small disk, whose content is kept."""


def can_mount() -> bool:
    """Whether this user may have mounts of its own."""
    tried = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(tried, capture_output=True).returncode == 0


def test_a_disk_that_fills_up_in_a_checkpoint_leaves_the_last_one_whole_and_a_job_that_says_so_and_goes_on(
    trainee_dir: Path, tmp_path: Path
) -> None:
    if not can_mount():
        pytest.skip("this user can mount no small disk (user namespaces are off)")
    job = make_job(trainee_dir, "run")
    whole = make_run(tmp_path / "whole", job, some_datums())
    train(whole)
    make_run(tmp_path, job, some_datums())
    for name in ("disk", "found"):
        (tmp_path / name).mkdir()
    each = sum(path.stat().st_size for path in (whole.path / "step_9").rglob("*")) // 1024
    size = int(2.5 * each) + 64  # two checkpoints are kept while a third is written
    script = ["unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", ON_A_DISK, "sh"]
    done = subprocess.run(
        [*script, str(tmp_path), str(size), sys.executable],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "status").read_text() == "4\n"
    found = RunDir(tmp_path / "found")
    status = found.status()
    assert status is not None
    assert status.state is JobState.FAILED
    assert "no room to write" in str(status.error)
    assert "The checkpoint of step 2 is whole: free some space" in str(status.error)
    assert str(status.error) in (tmp_path / "said").read_text()
    assert sorted(path.name for path in found.path.glob("*step_*")) == ["step_1", "step_2"]
    assert not list(found.path.glob(".tmp-*")), "the room of what was half written is given back"
    last = found.last_checkpoint()
    assert last is not None
    assert last[1].step == 2
    train(found)  # where there is room
    assert adapter_bytes(found) == adapter_bytes(whole)
    assert (found.path / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()


@pytest.mark.slow
async def test_a_job_that_met_a_limit_on_its_files_is_resumed_under_a_higher_one(
    trainee_dir: Path, tmp_path: Path
) -> None:
    job = make_job(trainee_dir, "limited", epochs=1)
    tight = default_limits().model_copy(update={"file_bytes": 1 << 16})
    backend = LocalBackend(tmp_path / "runs", default_sandbox(), tight)
    handle = backend.submit(job, some_datums())
    status = await backend.wait(handle)
    assert status.state is JobState.FAILED
    assert "no room to write" in str(status.error)
    assert "No step was finished: free some space" in str(status.error)
    roomy = LocalBackend(tmp_path / "runs", default_sandbox())
    roomy.submit(job, some_datums())
    assert roomy.poll(handle) == status, "submitting again doesn't try a failed job again"
    roomy.resume(handle)
    status = await roomy.wait(handle)
    assert status.state is JobState.SUCCEEDED, status.error
    assert sorted(adapter_files(status)) == ["adapter_config.json", "adapter_model.safetensors"]


def test_a_line_that_was_cut_short_hides_no_later_checkpoint(trainee_dir: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, make_job(trainee_dir, epochs=1), some_datums())
    (run.path / "checkpoints.jsonl").write_bytes(b'{"step": 7')
    train(run)
    last = run.last_checkpoint()
    assert last is not None
    assert last[1].step == 3


def test_a_checkpoint_of_another_version_is_refused_and_not_trained_over(trainee_dir: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, make_job(trainee_dir, epochs=1), some_datums())
    train(run)
    state = run.path / "step_3" / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "schema_version": 9}))
    with pytest.raises(ConfigurationError, match=r"checkpoint step_3 can't be used: schema_version.*another version"):
        train(run)


async def test_a_record_of_another_version_is_refused(trainee_dir: Path, tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "runs", default_sandbox())
    job = make_job(trainee_dir, "elder")
    Submission(tmp_path / "runs" / "elder").lay_out(job, some_datums())
    record = tmp_path / "jobs" / "elder.json"
    assert read_record(record) is not None
    record.write_text(json.dumps({**json.loads(record.read_text()), "priority": 1}))
    with pytest.raises(ConfigurationError, match=r"elder\.json .*another version of Pawl; submit the job again"):
        backend.submit(job, some_datums())


def test_an_adapter_for_another_base_is_refused(trainee_dir: Path, tmp_path: Path) -> None:
    first = make_run(tmp_path, make_job(trainee_dir, "first", epochs=1), some_datums())
    train(first)
    other = make_job(trainee_dir, "other", base_model_name="another-llama", init_adapter=first.adapter)
    with pytest.raises(ConfigurationError, match="is for the base tiny-llama, the job for another-llama"):
        train(make_run(tmp_path, other, some_datums()))
    config = first.adapter / "adapter_config.json"
    config.write_text(config.read_text().replace("tiny-llama", "another-llama"))
    shapes = first.adapter / "adapter_model.safetensors"
    assert shapes.exists()
    wider = make_job(trainee_dir, "wider", base_model_name="another-llama", init_adapter=first.adapter, rank=16)
    with pytest.raises(ConfigurationError, match="is for rank 8, the job for 16"):
        train(make_run(tmp_path, wider, some_datums()))


def test_a_gradient_that_is_not_finite_ends_the_job_before_it_reaches_the_adapter(
    trainee_dir: Path, tmp_path: Path
) -> None:
    """One weight of the base is NaN."""
    from safetensors.torch import load_file, save_file

    base = tmp_path / "base"
    shutil.copytree(trainee_dir, base)
    weights = load_file(base / "model.safetensors")
    name = next(each for each in sorted(weights) if each.endswith("mlp.up_proj.weight"))
    weights[name][0, 0] = float("nan")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    run = make_run(tmp_path, make_job(base, "nan"), some_datums())
    with pytest.raises(ConfigurationError, match="The gradient is nan: the log-probabilities"):
        train(run)
    assert run.last_checkpoint() is None
    assert not run.adapter.exists()
