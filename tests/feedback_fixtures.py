"""Planted evidence: rounds whose right answer is known, because they are made from it."""

import json
import math
import random
from collections.abc import Callable

from pawl.core import Grade, ModelCall, RolloutStop, Trajectory, Usage
from pawl.evals.scaffold import Mode, ScaffoldConfig
from pawl.evals.task import Direction, Metric
from pawl.nodes.decision import Diagnosis, Lever, Operator
from pawl.nodes.evidence import RoundEvidence, RoundRecord

METRIC = Metric(name="log_speedup", unit="ln(x)", direction=Direction.MAXIMISE, worst=-2.0, best=4.0, margin=0.05)
FIELDS = {name: ["a", "b", "c"] for name in ("fusion", "block", "stages", "warps", "layout", "group")}
USAGE = Usage(input_tokens=700, output_tokens=12, verifications=1)

Choices = dict[str, str]


def trajectory(
    item: str,
    seed: int,
    *,
    value: float | None = None,
    choices: Choices | None = None,
    output: str | None = None,
    reasons: list[str] | None = None,
    stop: RolloutStop = RolloutStop.ANSWERED,
    entropy: float = 0.8,
    logprob: float | None = None,
    usage: Usage = USAGE,
    metric: Metric = METRIC,
) -> Trajectory:
    """One attempt; a value makes it valid, reasons make it rejected. `entropy` is that of each recorded decision."""
    picked = choices or {"word": "a"}
    step = logprob / len(picked) if logprob is not None else -entropy * math.log(3)
    calls = [
        ModelCall(
            model="m",
            prompt="p",
            completion=option,
            token_ids=[1],
            logprobs=[step],
            choices=["a", "b", "c"],
            choice_token_ids=[[1], [2], [3]],
        )
        for option in picked.values()
    ]
    text = output if output is not None else json.dumps({"schedule": choices}) if choices is not None else None
    valid = value is not None
    return Trajectory(
        version="v",
        item=item,
        seed=seed,
        steps=list(calls) if stop is not RolloutStop.MODEL_FAILED else [],
        output=text,
        stop=stop,
        grade=Grade(value=value if value is not None else metric.worst, valid=valid, reasons=reasons or []),
        usage=usage,
    )


def rollouts(
    grade: Callable[[Choices, random.Random], float | None],
    *,
    items: int = 8,
    attempts: int = 8,
    entropy: float = 0.8,
    seed: int = 0,
    reason: str = "shared-memory",
    logprob: Callable[[Choices, random.Random], float] | None = None,
) -> list[Trajectory]:
    """Random schedules of `FIELDS`, graded by a rule: a value, or none for a refusal."""
    rng = random.Random(seed)
    made: list[Trajectory] = []
    for item in range(items):
        for attempt in range(attempts):
            choices = {name: rng.choice(options) for name, options in FIELDS.items()}
            value = grade(choices, rng)
            made.append(
                trajectory(
                    f"item-{item}",
                    item * 1000 + attempt,
                    value=value,
                    choices=choices,
                    reasons=[] if value is not None else [reason],
                    entropy=entropy,
                    logprob=logprob(choices, rng) if logprob else None,
                )
            )
    return made


def evidence(trajectories: list[Trajectory], **changes: object) -> RoundEvidence:
    """A round with a plain scaffold, a trainable and small model, no history and no limit."""
    fields: dict[str, object] = {
        "task": "planted",
        "round": 1,
        "metric": METRIC,
        "trajectories": trajectories,
        "payloads": {one.item: {"n": index} for index, one in enumerate(trajectories)},
        "scaffold": ScaffoldConfig(mode=Mode.SCHEDULE, prompt={"task": "Choose."}),
        "trainable": True,
        "capable": False,
    }
    return RoundEvidence.model_validate(fields | changes)


def pulled(
    round_: int,
    lever: Lever,
    *,
    operator: Operator | None = None,
    promoted: bool = False,
    gain: float = 0.2,
    brought: float = 0.0,
    scaffold: str | None = None,
) -> RoundRecord:
    """A past round of ordinary cost."""
    return RoundRecord(
        round=round_,
        lever=lever,
        diagnosis=Diagnosis.REFUSED if lever is Lever.SCAFFOLD else Diagnosis.SPREAD,
        operator=operator,
        expected_gain=gain,
        before=0.5,
        after=0.5 + brought,
        promoted=promoted,
        cost=Usage(
            input_tokens=90_000, output_tokens=1_500, verifications=128, training_steps=12 * (lever is Lever.WEIGHTS)
        ),
        scaffold=scaffold,
    )


def refused_at_limits(choices: Choices, rng: random.Random) -> float | None:
    """About one in five is refused for two reasons; the rest differ by their choices."""
    if (choices["block"], choices["stages"]) == ("c", "c") or (choices["fusion"], choices["warps"]) == ("a", "c"):
        return None
    return dense(choices, rng)


def dense(choices: Choices, rng: random.Random) -> float | None:
    """Every choice counts: standard deviation about 0.4."""
    ranks = {"a": 0.0, "b": 0.3, "c": 0.6}
    return 0.2 + 0.6 * ranks[choices["fusion"]] + ranks[choices["layout"]] + 0.8 * ranks[choices["group"]] * 0.5


def settled(choices: Choices, rng: random.Random) -> float | None:
    """Every answer is as good as the next."""
    return 0.9
