# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportPrivateImportUsage=false
"""A job that plays an environment and learns from it, by TRL's `GRPOTrainer` and its environment hooks.

Every optimiser step makes its own rollouts with the weights that it then changes, in this process, by transformers'
`generate`: nothing is off-policy, so the clip never binds. Group-relative advantages only, against the group's mean.
TRL divides by ``std + 1e-4``; a group whose rewards are equal teaches nothing.
"""

import hashlib
import importlib
import os
import sys
from random import Random
from typing import Any

from datasets import Dataset
from pydantic import JsonValue
from transformers import AutoTokenizer, TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer

from ..core import ConfigurationError, derive_seed
from ..safety.telemetry.jobs import JobSpan, JobSpans
from .course import Course
from .environment import EnvironmentSpec
from .job import JobStatus, TrainJob
from .objectives import Aggregation, Baseline, GroupRelative, Scale
from .policy import load_policy
from .rundir import RunDir
from .trl_runs import common_arguments, common_objects, run_to_end

_LOSS = {Aggregation.TOKEN: "dapo", Aggregation.SEQUENCE: "grpo", Aggregation.CONSTANT: "dr_grpo"}


def train(run: RunDir, spans: JobSpans | None = None) -> JobStatus:
    """Train the run dir's job to its end, from its last complete checkpoint, and return the final status.

    The caller holds the run dir's lock. Rollouts are drawn from the job's seed and the step, so that a resumed job ends
    with the adapter bytes of an unbroken one, where the environment keeps to its contract (see `environment`).

    Args:
        run: the run dir.
        spans: takes the times of its parts, for the campaign's trace.

    Raises:
        ConfigurationError: the job or its environment can't be used, or its run dir belongs to others.
        NotFound: there is no job.
    """
    job = run.job()
    spec, objective = check(job)
    content = hashlib.sha256(f"{run.data_digest()}{spec.content_digest()}".encode()).hexdigest()
    course = Course(run, job, content, spans)
    factory, *rewards = imported(spec)
    with course.spans.span(JobSpan.LOAD):
        policy = load_policy(job)
        tokenizer = _tokenizer(job, spec)
    course.begin(spec.steps)
    if course.step < spec.steps and not course.cancelled:
        left = spec.steps - course.step
        arguments = GRPOConfig(**{**common_arguments(course, policy, left), **_arguments(job, spec, objective)})
        objects = common_objects(course, policy, lambda steps: steps * job.minibatch)
        objects["callbacks"].insert(0, _Draws(course))
        os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
        try:
            trainer = GRPOTrainer(
                args=arguments,
                reward_funcs=rewards,
                train_dataset=Dataset.from_list(played(job, spec)[course.step * (job.minibatch // spec.group) :]),
                processing_class=tokenizer,
                environment_factory=factory,
                **objects,
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"TRL can't use the environment {spec.factory}: {error} An environment needs reset, tools with typed "
                "arguments and docstrings, a reward, and a chat template that renders tool calls (chat_template)."
            ) from error
        run_to_end(trainer, course, policy)
    elif course.checkpoint is not None:
        policy.load(course.checkpoint)
    return course.end(policy.save_adapter)


def check(job: TrainJob) -> tuple[EnvironmentSpec, GroupRelative]:
    """The environment and the objective, where TRL's trainer does what they say.

    Raises:
        ConfigurationError: it can't.
    """
    spec, objective = job.environment, job.objective
    if spec is None:
        raise ConfigurationError(f"The job {job.id!r} has no environment: expected one to play.")
    if not isinstance(objective, GroupRelative) or objective.baseline is not Baseline.MEAN:
        raise ConfigurationError(
            f"The objective {objective.kind} can't be trained on an environment played in the trainer: expected "
            "group_relative with the baseline 'mean'. For any other, make rollouts first and train on their datums."
        )
    loss = objective.loss
    if loss.aggregation is Aggregation.CONSTANT and loss.constant_length != spec.max_tokens:
        raise ConfigurationError(
            f"constant_length is {loss.constant_length}, the environment's max_tokens {spec.max_tokens}: expected the "
            "same number, by which TRL divides."
        )
    if job.minibatch % spec.group:
        raise ConfigurationError(
            f"A step plays {job.minibatch} rollouts (minibatch) in groups of {spec.group}: expected a multiple."
        )
    return spec, objective


def imported(spec: EnvironmentSpec) -> list[Any]:
    """The environment's factory and, where there is one, its reward function.

    Raises:
        ConfigurationError: the code isn't there, can't be imported or has no such name.
    """
    if not spec.code.is_dir():
        raise ConfigurationError(f"No environment in {spec.code}: expected a folder of Python modules.")
    found: list[Any] = []
    sys.path.insert(0, str(spec.code.absolute()))
    try:
        for path in (spec.factory, spec.reward):
            if path is not None:
                module, _, name = path.partition(":")
                found.append(getattr(importlib.import_module(module), name))
    except Exception as error:
        raise ConfigurationError(
            f"The environment {spec.factory} in {spec.code} can't be imported: {type(error).__name__}: {error}. "
            "Expected 'module:name' of a file there; packages of the trainer's own environment may be used."
        ) from error
    finally:
        sys.path.pop(0)
    return found


def played(job: TrainJob, spec: EnvironmentSpec) -> list[dict[str, JsonValue]]:
    """The rows of the job's groups, in the order in which they are played; every pass over them has its own."""
    groups = spec.steps * (job.minibatch // spec.group)
    rows: list[dict[str, JsonValue]] = []
    while len(rows) < groups:
        places = list(range(len(spec.rows)))
        Random(derive_seed(job.seed, "rows", len(rows))).shuffle(places)
        rows += [_conversational(spec.rows[place]) for place in places]
    return rows[:groups]


def _conversational(row: dict[str, JsonValue]) -> dict[str, JsonValue]:
    prompt = row.get("prompt", "")
    return {**row, "prompt": [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt}


def _arguments(job: TrainJob, spec: EnvironmentSpec, objective: GroupRelative) -> dict[str, Any]:
    fits = max(1, job.pack_tokens // spec.max_tokens)
    together = max(size for size in range(1, job.minibatch + 1) if job.minibatch % size == 0 and size <= fits)
    return {
        "per_device_train_batch_size": together,
        "gradient_accumulation_steps": job.minibatch // together,
        "steps_per_generation": job.minibatch // together,
        "num_generations": spec.group,
        "num_iterations": 1,
        "shuffle_dataset": False,
        "max_completion_length": spec.max_tokens,
        "max_tool_calling_iterations": spec.tool_turns,
        "temperature": spec.temperature,
        "loss_type": _LOSS[objective.loss.aggregation],
        "scale_rewards": "group" if objective.scale is Scale.STD else "none",
        "beta": objective.loss.kl,
        "epsilon": objective.loss.clip_low,
        "epsilon_high": objective.loss.clip_high,
        "use_vllm": False,
    }


def _tokenizer(job: TrainJob, spec: EnvironmentSpec) -> Any:
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(job.base_model_dir, local_files_only=True, padding_side="left")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"No tokenizer in {job.base_model_dir}: {str(error).splitlines()[0]} To play an environment its words must "
            "be read: expected the base model's folder with its tokenizer's files."
        ) from error
    if spec.chat_template:
        try:
            tokenizer.chat_template = (spec.code / spec.chat_template).read_text()
        except OSError as error:
            raise ConfigurationError(f"No chat template {spec.chat_template!r} in {spec.code}: {error}.") from error
    return tokenizer


class _Draws(TrainerCallback):
    """Seeds every generator anew before each step."""

    def __init__(self, course: Course) -> None:
        self._course = course

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        set_seed(derive_seed(self._course.job.seed, "step", self._course.step) % (1 << 32))
