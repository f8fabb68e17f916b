"""Where a policy lives changes nothing of what it learns: devices, recomputed layers, logits in parts."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from pawl.core import ConfigurationError
from pawl.safety.sandbox import Mount
from pawl.training import JobState, RunDir, TrainJob, choices
from pawl.training.cuda_files import cuda_environment, cuda_mounts
from pawl.training.learner import Learner
from pawl.training.loop import train
from pawl.training.placement import devices_of, place
from pawl.training.trees import pack

from .test_training_learner import perturb
from .training_fixtures import (
    adapter_bytes,
    make_datum,
    make_job,
    make_run,
    save_tiny,
    some_datums,
    torch_settings,
    trainee_dir,
)

__all__ = ["torch_settings", "trainee_dir"]
pytestmark = pytest.mark.usefixtures("torch_settings")

CPU, META = torch.device("cpu"), torch.device("meta")
NO_CUDA = not torch.cuda.is_available()


def trained(folder: Path, job: TrainJob) -> RunDir:
    run = make_run(folder, job, some_datums())
    status = train(run)
    assert status.state is JobState.SUCCEEDED, status.error
    return run


def gradients(learner: Learner, sizes: int = 512) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Log-probabilities of some decisions, and what their weighted sum makes of the masters."""
    said: list[float] = []
    for each in pack([*some_datums(), make_datum(range(70, 90), range(4, 20))], sizes):
        values = learner.decide(each, learner.trunk(each)).logprobs
        (values * torch.tensor([one.advantage for one in each.decisions])).sum().backward()
        said += values.tolist()
    learner.collect_gradients()
    return said, {name: master.grad for name, master in learner.masters.items() if master.grad is not None}


# --- on the CPU


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [("llama", {"devices": 3}), ("llama", {"recompute": True}), ("gpt_oss", {"devices": 2, "recompute": True})],
)
def test_a_job_that_is_spread_or_recomputed_ends_with_the_same_bytes(
    tmp_path: Path, model_type: str, changes: dict[str, object]
) -> None:
    base = save_tiny(tmp_path / model_type, model_type)
    plain = trained(tmp_path / "plain", make_job(base, modules="attention"))
    other = trained(tmp_path / "other", make_job(base, modules="attention", **changes))
    assert adapter_bytes(other) == adapter_bytes(plain)
    assert (other.path / "metrics.jsonl").read_bytes() == (plain.path / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("devices", "meant"), [((CPU, META), "ccmm"), ((META, CPU), "mmcc"), ((CPU, META, CPU), "ccmc")]
)
def test_layers_go_to_the_devices_in_order_and_evenly(
    tmp_path: Path, devices: Sequence[torch.device], meant: str
) -> None:
    """A device of tensors without content stands for one that isn't there."""
    learner = Learner(make_job(save_tiny(tmp_path / "llama", layers=4)))
    decoder = learner.model.base_model.model.model
    placement = place(decoder, devices)
    of = [next(iter({value.device.type for value in layer.parameters()})) for layer in decoder.layers]
    assert "".join(kind[0] for kind in of) == meant
    assert decoder.embed_tokens.weight.device == placement.first == devices[0]
    assert decoder.norm.weight.device == placement.last == devices[-1]


@pytest.mark.parametrize("devices", [(CPU, META), (META, META)], ids=["from the CPU on", "all"])
@pytest.mark.parametrize("chosen", [{"allowed": [30, 31]}, {}], ids=["a choice", "a free token"])
def test_nothing_of_a_pass_is_left_on_another_device(
    trainee_dir: Path, devices: Sequence[torch.device], chosen: dict[str, list[int]]
) -> None:
    """The pass comes to its end, where numbers are fetched that a device without content can't have."""
    learner = Learner(make_job(trainee_dir, layers=3), devices)
    [only] = pack([make_datum([7, 8, 9, 30], [3], **chosen)], 64)  # pyright: ignore[reportArgumentType]
    trunk = learner.trunk(only) if devices[0] == CPU else None
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor") as caught:
        learner.decide(only, trunk or learner.trunk(only))
    if trunk is not None:
        assert caught.traceback[1].name == "decide"
        assert [entry.name for entry in caught.traceback][2] == "decided", "the layers are behind it"


def test_logits_in_parts_are_those_of_the_whole(trainee_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[list[float], dict[str, torch.Tensor]]] = []
    for rows in (512, 3):
        monkeypatch.setattr(choices, "ROWS", rows)
        learner = Learner(make_job(trainee_dir))
        perturb(learner)
        found.append(gradients(learner))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    for name, value in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], value, rtol=1e-4, atol=1e-5)


def test_more_devices_than_layers_are_refused(trainee_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match="3 layers can't be spread over 4 devices"):
        Learner(make_job(trainee_dir, devices=4))


def test_devices_that_are_not_there_are_refused_in_words(trainee_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"takes 128 CUDA devices \(2 processes of 64\), and its trainer sees"):
        devices_of(make_job(trainee_dir, device="cuda", processes=2, devices=64))
    assert devices_of(make_job(trainee_dir, device="cpu", devices=2)) == (CPU, CPU)


@pytest.mark.skipif(not NO_CUDA, reason="this machine has CUDA devices")
def test_a_job_that_does_not_say_runs_on_the_cpu_where_there_is_nothing_else(trainee_dir: Path) -> None:
    assert devices_of(make_job(trainee_dir, device="auto")) == (CPU,)


def test_a_supervised_job_is_not_spread(trainee_dir: Path) -> None:
    with pytest.raises(ValidationError, match="2 devices: a supervised job"):
        make_job(trainee_dir, objective="best_of_n", devices=2)


def test_a_sandboxed_trainer_gets_the_drivers_files_only_where_its_job_asks_for_cuda(
    trainee_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/null and its like stand for them: making device files takes privileges."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    for kind in ("auto", "cpu"):
        job = make_job(trainee_dir, device=kind)
        assert not cuda_mounts(job)
        assert not cuda_environment(job)
    job = make_job(trainee_dir, device="cuda")
    monkeypatch.setattr(Path, "glob", lambda _, pattern: map(Path, {"nvidia*": ["/dev/null", "/dev/shm"]}[pattern]))
    assert cuda_mounts(job) == (Mount(path=Path("/dev/null"), writable=True),)
    assert cuda_environment(job) == {"CUDA_VISIBLE_DEVICES": "2,3"}


# --- on CUDA


@pytest.mark.gpu
@pytest.mark.skipif(NO_CUDA, reason="no CUDA device here")
@pytest.mark.parametrize("model_type", ["llama", "gpt_oss", "qwen2"])
def test_cuda_gives_what_the_cpu_gives(tmp_path: Path, model_type: str) -> None:
    base = save_tiny(tmp_path / model_type, model_type)
    found: list[tuple[list[float], dict[str, torch.Tensor]]] = []
    for device in ("cpu", "cuda"):
        learner = Learner(make_job(base, modules="attention", device=device))
        perturb(learner)
        found.append(gradients(learner))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-3)
    for name, value in found[0][1].items():
        torch.testing.assert_close(found[1][1][name].cpu(), value, rtol=1e-2, atol=1e-3 * float(value.abs().max()))


@pytest.mark.gpu
@pytest.mark.skipif(NO_CUDA, reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_job_on_cuda_gives_the_same_bytes_again_and_nearly_those_of_the_cpu(tmp_path: Path, precision: str) -> None:
    base = save_tiny(tmp_path / "gpt_oss", "gpt_oss")
    settings = {"modules": "attention", "precision": precision, "recompute": True}
    once, again = (trained(tmp_path / place, make_job(base, device="cuda", **settings)) for place in ("once", "again"))
    assert adapter_bytes(once) == adapter_bytes(again)
    cpu = trained(tmp_path / "cpu", make_job(base, **settings))
    if precision == "float32":
        weights, wanted = (load_file(run.adapter / "adapter_model.safetensors") for run in (once, cpu))
        for name, value in wanted.items():
            torch.testing.assert_close(weights[name], value, rtol=0.05, atol=2e-3)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices here")
def test_two_cuda_devices_give_what_one_gives(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "gpt_oss", "gpt_oss", layers=4)
    one, two = (
        trained(tmp_path / str(count), make_job(base, modules="attention", device="cuda", devices=count))
        for count in (1, 2)
    )
    weights, wanted = (load_file(run.adapter / "adapter_model.safetensors") for run in (two, one))
    for name, value in wanted.items():
        torch.testing.assert_close(weights[name], value, rtol=0.05, atol=2e-3)
