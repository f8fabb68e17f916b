"""What a sealed rollout may use: its bill, so that no race costs more tokens than it is billed at.

A hosted model's dollars are in those tokens. A rollout that needs more is told so, as at any limit, and fails.
"""

from collections.abc import Sequence
from statistics import median

from ..core import ConfigurationError, Trajectory, Usage
from ..serving.recording import TEMPLATE_TOKENS
from ..serving.runner import RolloutLimits
from ..serving.session import CallLimits
from .races import RaceRules

CAPABLE_BILL = Usage(input_tokens=64_000, output_tokens=16_000, verifications=1, cpu_seconds=0.25)
"""For a model that writes text and code: five modules of 3,000 tokens, each asked for with one or two others shown."""


def for_model(rules: RaceRules, *, capable: bool) -> RaceRules:
    """The rules with the bill of a capable model, unless they name one."""
    if not capable or "rollout_bill" in rules.model_fields_set:
        return rules
    return rules.model_copy(update={"rollout_bill": CAPABLE_BILL})


TOKENS_A_SECOND = 20
"""A model that writes slower than this doesn't come to the end of its rollouts."""


def timed_limits(bill: Usage) -> RolloutLimits:
    """The limits of a visible rollout: time for the answers that a sealed one may give, beside the default."""
    limits = RolloutLimits()
    seconds = limits.sandbox.wall_seconds + bill.output_tokens / TOKENS_A_SECOND
    return limits.model_copy(update={"sandbox": limits.sandbox.model_copy(update={"wall_seconds": seconds})})


def billed_limits(bill: Usage) -> RolloutLimits:
    """The limits of a rollout that is billed so much."""
    tokens = max(bill.tokens, CallLimits().tokens)
    return timed_limits(bill).model_copy(update={"calls": CallLimits(tokens=tokens, most=bill)})


def require_bill(trajectories: Sequence[Trajectory], rules: RaceRules) -> None:
    """Return if half of these rollouts, on visible items, would have fitted into the bill of a sealed one.

    Raises:
        ConfigurationError: they would not, so that live would fail its own races.
    """
    bill, needed = rules.rollout_bill, [_needed(each) for each in trajectories]
    prompts = median([each.input_tokens for each in needed] or [0])
    answers = median([each.output_tokens for each in needed] or [0])
    if prompts <= bill.input_tokens and answers <= bill.output_tokens:
        return
    raise ConfigurationError(
        f"The sealed races' bill is too small: a sealed rollout may use {bill.input_tokens:,} input and "
        f"{bill.output_tokens:,} output tokens, and this round's rollouts needed room for {prompts:,.0f} and "
        f"{answers:,.0f} at the median. Rules are fixed at the start: begin another campaign with "
        f"RaceRules(rollout_bill=Usage(input_tokens={2 * max(bill.input_tokens, int(prompts))}, "
        f"output_tokens={2 * max(bill.output_tokens, int(answers))}, verifications=1, cpu_seconds=0.25))."
    )


def _needed(trajectory: Trajectory) -> Usage:
    """The most that was set aside at any time of the rollout: what its calls had used, and the next one's bound."""
    used, prompts = Usage(), 0
    for step in trajectory.steps:
        if step.kind == "model":
            prompts = max(prompts, used.input_tokens + len(step.prompt.encode()) + TEMPLATE_TOKENS)
            used += step.usage
    return Usage(input_tokens=max(prompts, used.input_tokens), output_tokens=used.output_tokens)
