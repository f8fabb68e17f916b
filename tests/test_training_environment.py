"""A job that plays an environment in the trainer: it learns, repeats, resumes, and refuses what TRL can't do."""

import json
import shutil
from pathlib import Path

import pytest

from pawl.core import ConfigurationError
from pawl.safety.sandbox import default_sandbox
from pawl.serving.weights import BaseModelFiles
from pawl.training import JobState, LocalBackend, Objective, RunDir, TrainJob, adapter_files
from pawl.training.environment import EnvironmentSpec
from pawl.training.grpo import played, train
from pawl.training.supervised.train import train as clone

from .model_fixtures import save_tiny_model, smollm2, tiny_model_dir
from .training_fixtures import adapter_bytes, make_datum, make_job, make_run, torch_settings, trainee_dir

__all__ = ["smollm2", "tiny_model_dir", "torch_settings", "trainee_dir"]
pytestmark = pytest.mark.usefixtures("torch_settings")

CODE = '''
RESETS = []

class Door:
    """A door that opens by a word."""

    def reset(self, prompt, word):
        RESETS.append(word)
        self.word, self.opened = word, False
        return " The word is on the wall."

    def read_wall(self) -> str:
        """Read what is on the wall.

        Returns:
            The text.
        """
        self.opened = True
        return self.word

    def get_reward(self) -> float:
        return float(self.opened)

def low_tokens(prompts, completions, completion_ids, **_):
    return [sum(token < 24_000 for token in ids) / max(1, len(ids)) for ids in completion_ids]
'''
ROWS = ({"prompt": "Open.", "word": "sesame"}, {"prompt": "Open it.", "word": "friend"})


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The environment's folder, with a template that renders tool calls (SmolLM2's own doesn't)."""
    import trl

    folder = tmp_path / "doors"
    folder.mkdir()
    (folder / "doors.py").write_text(CODE)
    shutil.copy(Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja", folder / "tools.jinja")
    return folder


def job_of(base: Path, folder: Path, name: str = "job", **changes: object) -> TrainJob:
    spec: dict[str, object] = {
        "code": folder,
        "factory": "doors:Door",
        "reward": "doors:low_tokens",
        "rows": ROWS,
        "steps": 3,
        "group": 4,
        "max_tokens": 6,
        "chat_template": "tools.jinja",
    }
    spec |= {key: changes.pop(key) for key in list(changes) if key in EnvironmentSpec.model_fields}
    return make_job(base, name, **({"environment": spec, "minibatch": 8, "pack_tokens": 24} | changes))


def test_an_environment_is_played_and_learned_from_and_a_broken_job_ends_with_the_same_bytes(
    tiny_model_dir: Path, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_run(tmp_path / "whole", job_of(tiny_model_dir, code), [])
    status = train(whole)
    assert (status.state, status.step, status.total_steps) == (JobState.SUCCEEDED, 3, 3)
    lines = [json.loads(line) for line in (whole.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert all(0 < line["reward"] < 1 and line["reward_std"] > 0 and line["grad_norm"] > 0 for line in lines)
    assert lines[0]["rewards.Door.mean"] == 0.0  # a random model reads no wall
    assert whole.last_checkpoint()[1].consumed == 24  # pyright: ignore[reportOptionalSubscript]
    broken = make_run(tmp_path / "broken", job_of(tiny_model_dir, code), [])
    written = RunDir.append_metrics

    def fail_at(self: RunDir, step: int, metrics: dict[str, float]) -> None:
        written(self, step, metrics)
        if step == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunDir, "append_metrics", fail_at)
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    monkeypatch.undo()
    train(broken)
    assert adapter_bytes(broken) == adapter_bytes(whole)
    assert (broken.path / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()
    (code / "doors.py").write_text(CODE.replace("24_000", "12_000"))
    with pytest.raises(ConfigurationError, match="belongs to another datums"):
        train(broken)


@pytest.mark.slow
async def test_the_sandbox_gives_a_job_its_environments_code(tiny_model_dir: Path, code: Path, tmp_path: Path) -> None:
    job = job_of(tiny_model_dir, code, steps=2)
    backend = LocalBackend(tmp_path / "runs", default_sandbox())
    status = await backend.wait(backend.submit(job, []))
    assert (status.state, status.error, status.usage.training_steps) == (JobState.SUCCEEDED, None, 2)
    assert adapter_files(status)
    alone = make_run(tmp_path / "alone", job, [])
    train(alone)
    assert adapter_files(status) == adapter_bytes(alone)


@pytest.mark.slow
def test_a_tool_that_the_policy_calls_is_run_and_its_answer_paid(
    smollm2: BaseModelFiles, code: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = tmp_path / "base"
    save_tiny_model(base, smollm2.path, spread=0.5)  # wide enough for its output layer to be sure of a token
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.nn.init.normal_(
        model.get_input_embeddings().weight.data[2], std=0.5
    )  # the end of a turn pads, so its row is 0
    model.save_pretrained(base)
    names: dict[str, type] = {}
    exec(CODE, names)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = (code / "tools.jinja").read_text()
    datums = []
    for row in ROWS:
        messages = [{"role": "user", "content": f"{row['prompt']} The word is on the wall."}]
        prompt = tokenizer.apply_chat_template(
            messages, tools=[names["Door"]().read_wall], add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        call = '<tool_call>\n{"name": "read_wall", "arguments": {}}\n</tool_call><|im_end|>'
        ids = tokenizer(call, add_special_tokens=False)["input_ids"]
        datums.append(make_datum([*prompt, *ids], range(len(prompt), len(prompt) + len(ids))))
    shown = make_run(
        tmp_path,
        make_job(base, "shown", objective=Objective.BEST_OF_N, epochs=100, learning_rate=5e-3, rank=32, alpha=64.0),
        datums,
    )
    status = clone(shown)
    assert status.metrics["loss"] < 0.05, status.metrics
    job = job_of(
        base, code, "played", init_adapter=status.adapter, rank=32, alpha=64.0, learning_rate=1e-6, steps=1,
        max_tokens=80, temperature=0.2, pack_tokens=80,
    )  # fmt: skip
    played_once = train(make_run(tmp_path, job, []))
    assert played_once.metrics["rewards.Door.mean"] > 0.5
    assert played_once.metrics["tools.call_frequency"] >= 1.0
    assert played_once.metrics["tools.failure_frequency"] < 0.5


def test_every_row_is_played_before_one_is_played_again(tiny_model_dir: Path, code: Path) -> None:
    job = job_of(tiny_model_dir, code, steps=5)
    words = [row["word"] for row in played(job, job.environment)]  # pyright: ignore[reportArgumentType]
    assert len(words) == 10
    assert all(sorted(words[start : start + 2]) == ["friend", "sesame"] for start in range(0, 10, 2))


def test_what_trl_cannot_do_is_refused(tiny_model_dir: Path, trainee_dir: Path, code: Path, tmp_path: Path) -> None:
    constant = {"kind": "group_relative", "loss": {"aggregation": "constant", "constant_length": 99}}
    for name, changes, words in (
        ("ppo", {"objective": Objective.PPO}, "objective ppo"),
        ("rloo", {"objective": {"kind": "group_relative", "baseline": "leave_one_out"}}, "baseline 'mean'"),
        ("length", {"objective": constant}, "constant_length is 99"),
        ("odd", {"minibatch": 6}, "groups of 4"),
        ("lost", {"factory": "doors:Window"}, "has no attribute 'Window'"),
        ("nowhere", {"code": tmp_path / "not-there"}, "expected a folder"),
        ("plain", {"chat_template": ""}, "chat template does not support tool calling"),
        ("untold", {"chat_template": "none.jinja"}, "No chat template"),
        ("wordless", {"base_model_dir": trainee_dir}, "No tokenizer"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            train(make_run(tmp_path, job_of(tiny_model_dir, code, name, **changes), []))
