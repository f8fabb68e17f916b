# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false
"""What every trainer of TRL is given here, so that it keeps to the run dir's contract.

TRL has its own checkpoints, logs and defaults; all are off. A step is recorded by a callback on the job's `Course`, and
a resumed job is a new trainer over the steps that are left.
"""

import re
from collections.abc import Callable
from contextlib import ExitStack
from math import isfinite
from typing import Any

import huggingface_hub.constants
import torch
import trl.trainer.utils
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerFast, PrinterCallback, TrainerCallback

from ..core import ConfigurationError
from ..safety.telemetry.jobs import JobSpan
from .course import Course
from .policy import Policy

_LEFT_OUT = re.compile(r"epoch|learning_rate|num_tokens|step_time|profiling/.*")
"""Of what TRL logs: constants of a job, and counts and times of this process alone."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST = 64
"""Metrics that a status holds."""


def _counted_only(device: torch.device) -> bool:
    return True


huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True  # TRL counts its uses; a training job tells nobody anything
# TRL's output layer scores only the tokens that count where this says so, and on a processor else every token of every
# prompt. Its kernel is chosen by the same function under another name, and stays what it is.
setattr(trl.trainer.utils, "_use_triton", _counted_only)  # noqa: B010  (private)


def common_arguments(course: Course, policy: Policy, steps: int) -> dict[str, Any]:
    """Arguments of any TRL config.

    Its defaults would checkpoint activations, run in bfloat16 also where the processor emulates it, warm up or decay
    the rate, drop columns, replace a loss that is not finite by the last good one, and write to services.

    Args:
        course: of the job.
        policy: what is trained.
        steps: optimiser steps that are left.
    """
    return {
        "output_dir": str(course.run.path),
        "max_steps": steps,
        "max_grad_norm": course.job.max_grad_norm,
        "learning_rate": course.job.learning_rate,
        "seed": course.job.seed % (1 << 32),
        "bf16": policy.bfloat16,
        "fp16": False,
        "use_cpu": policy.device.type == "cpu",
        "gradient_checkpointing": False,
        "gradient_accumulation_steps": 1,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }


def common_objects(course: Course, policy: Policy, consumed: Callable[[int], int]) -> dict[str, Any]:
    """The objects that any TRL trainer takes: model, optimiser with a constant rate, and the callback that records.

    Args:
        course: of the job.
        policy: what is trained.
        consumed: datums seen, counted once an epoch, after so many steps of the job.
    """
    return {
        "model": policy.model,
        "optimizers": (policy.optimiser.adam, LambdaLR(policy.optimiser.adam, lambda _: 1.0)),
        "callbacks": [Recorder(course, policy, consumed)],
    }


def run_to_end(trainer: Any, course: Course, policy: Policy) -> None:
    """Load the course's checkpoint, if it has one, and train what is left."""
    if course.checkpoint is not None:  # only now: DPO takes its reference from the weights that the job starts with
        policy.load(course.checkpoint)
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def token_ids_only() -> PreTrainedTokenizerFast:
    """What stands for a tokenizer where all data are token ids already; it knows only a padding token."""
    vocabulary = {"<pad>": 0}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="<pad>")),  # noqa: S106  (no secret)
        pad_token="<pad>",  # noqa: S106
        eos_token="<pad>",  # noqa: S106
    )


class Recorder(TrainerCallback):
    """Writes down each optimiser step, and stops the trainer where the job is to stop."""

    def __init__(self, course: Course, policy: Policy, consumed: Callable[[int], int]) -> None:
        self._course, self._policy, self._consumed = course, policy, consumed
        self._open = ExitStack()

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        """Time the step."""
        self._open.enter_context(self._course.spans.span(JobSpan.STEP, step=self._course.step))

    def on_log(self, args, state, control, logs: dict[str, Any] | None = None, **kwargs) -> None:
        """Record the step that was just done.

        Raises:
            ConfigurationError: its gradient is not finite.
        """
        if logs is None or "grad_norm" not in logs:  # what TRL says at the end, of the whole run
            return
        self._open.close()
        if not isfinite(logs["grad_norm"]):
            raise ConfigurationError(
                f"The gradient is {logs['grad_norm']}: the log-probabilities, the rewards or the base's weights are "
                "not finite."
            )
        metrics = {
            said: float(value)
            for name, value in logs.items()
            if _NAME.fullmatch(said := name.replace("/", ".")) and not _LEFT_OUT.fullmatch(name)
            if isinstance(value, int | float) and isfinite(value)
        }
        metrics = dict(list(metrics.items())[:_MOST])
        self._course.stepped(metrics, self._consumed(self._course.step + 1), self._policy.save)
        control.should_training_stop = control.should_training_stop or self._course.cancelled
