"""Datums: what the trainer learns from, blind to the objective and to the task.

    datums = to_datums(trajectory, advantage=0.7, group_id=trajectory.item)
    write_datums(run_dir / "rollouts" / "datums.jsonl", datums)

One datum is one token sequence with the decisions that the policy took in it. Calls of one rollout whose prompts
extend the former sequence are merged into one datum, so that a rollout that fills ten fields costs one forward.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..core import ConfigurationError, ModelCall, Trajectory
from ..core.artifacts import write_durably


class Datum(BaseModel):
    """One sequence; every list has one entry a token."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tokens: list[int]
    mask: list[int]
    """1 where the policy chose the token among two or more; prompts and forced tokens are 0."""
    behaviour_logprobs: list[float]
    """Log-probability under the distribution that the token was drawn from; 0 where the mask is 0."""
    advantages: list[float]
    allowed: list[list[int] | None]
    """Token ids that the draw was masked to (sorted); none means the whole vocabulary."""
    rewards: list[float] | None = None
    """What each decision brought; 0 where the mask is 0. For an objective that estimates advantages itself (PPO)."""
    temperature: float = Field(default=1.0, gt=0)
    weight: float = Field(default=1.0, ge=0)
    policy_version: str
    group_id: str
    rollout_id: str = ""
    """Rollout that it is a part of, within the whole job; empty for one that is a rollout of its own."""
    part: int = Field(default=0, ge=0)
    """Which part of its rollout it is; later decisions are in later parts."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        lengths = {len(self.mask), len(self.behaviour_logprobs), len(self.advantages), len(self.allowed)}
        lengths |= {len(self.rewards)} if self.rewards is not None else set()
        if lengths != {len(self.tokens)}:
            raise ValueError(f"lists of different lengths: {len(self.tokens)} tokens, the others {sorted(lengths)}")
        for index, chosen in enumerate(self.mask):
            if chosen not in (0, 1):
                raise ValueError(f"mask[{index}] is {chosen}, expected 0 or 1")
            allowed = self.allowed[index]
            if self.rewards is not None and self.rewards[index] and not chosen:
                raise ValueError(f"rewards[{index}] is {self.rewards[index]}, but the policy chose nothing there")
            if chosen and index == 0:
                raise ValueError("the first token is marked as chosen, but nothing precedes it")
            if chosen and allowed is not None and (self.tokens[index] not in allowed or len(allowed) < 2):
                raise ValueError(f"token {index} was chosen, yet it is not one of two or more allowed ones: {allowed}")
        return self

    @property
    def decisions(self) -> int:
        """Number of tokens that the policy chose."""
        return sum(self.mask)


class Refusal(StrEnum):
    """Why a model call gives no datum; every one is counted, none is trained on silently."""

    NO_TOKENS = "no_token_ids"
    """The server returned no token ids, for the prompt or for the completion."""
    NO_LOGPROBS = "no_logprobs"
    """Log-probabilities are missing, of another number than the tokens, not finite, or above zero."""
    GREEDY = "greedy"
    """Temperature 0: the answer was not drawn, so there is no policy gradient of it."""
    NO_CHOICE_TOKENS = "no_choice_token_ids"
    """A choice without the token ids of its labels: the set that each token was drawn from is not known."""
    OUTSIDE_CHOICES = "outside_choices"
    """A token that continues none of the choices."""
    OPEN_END = "open_end"
    """A label goes on from another one, and the token that ends the shorter is not known (see `end_token`)."""
    NO_DECISION = "no_decision"
    """Every token was forced; there is nothing to learn."""


def to_datums(
    trajectory: Trajectory,
    advantage: float,
    group_id: str,
    refused: Counter[Refusal] | None = None,
    end_token: int | None = None,
    rewards: Sequence[float] | None = None,
) -> list[Datum]:
    """Turn the model calls of a rollout into datums, its parts in order.

    Args:
        trajectory: the rollout; its `version` becomes the datums' policy version.
        advantage: of the whole rollout; every token that the policy chose gets it.
        group_id: rollouts that were compared with each other share it.
        refused: counts the calls that give no datum, by rule.
        end_token: the token that the server draws to end a label that others go on from.
        rewards: of each step; a step's goes to the last decision that was taken until its end, or to the first of all.

    Raises:
        ConfigurationError: the advantage or a reward is not finite, or there is not one reward a step.
    """
    if rewards is not None and (len(rewards) != len(trajectory.steps) or not all(map(isfinite, rewards))):
        raise ConfigurationError(
            f"Trajectory {trajectory.id[:12]} has {len(trajectory.steps)} steps and the rewards {rewards}: "
            "expected one finite number a step."
        )
    if not isfinite(advantage):
        raise ConfigurationError(
            f"The advantage of trajectory {trajectory.id[:12]} is {advantage}: expected a finite number. "
            "Check its grade, and use the functions of pawl.training.advantages."
        )
    counts = Counter[Refusal]() if refused is None else refused
    sequences: list[_Sequence] = []
    owed = 0.0
    for index, call in enumerate(trajectory.steps):
        if isinstance(call, ModelCall):
            decisions = _read(call, end_token)
            if isinstance(decisions, Refusal):
                counts[decisions] += 1
            else:
                if not sequences or not sequences[-1].extends_to(call):
                    sequences.append(_Sequence(call.temperature))
                sequences[-1].append(call, decisions, advantage)
        if rewards is not None:
            owed += rewards[index]
            deciding = [sequence for sequence in sequences if any(sequence.mask)]
            if deciding:
                deciding[-1].reward(owed)
                owed = 0.0
    datums: list[Datum] = []
    for sequence in sequences:
        if any(sequence.mask):
            datums.append(sequence.datum(trajectory, group_id, len(datums), rewarded=rewards is not None))
        else:
            counts[Refusal.NO_DECISION] += sequence.calls
    return datums


_Allowed = list[int] | None
_FORCED: list[int] = []


def _read(call: ModelCall, end_token: int | None) -> list[_Allowed] | Refusal:
    """What each completion token was chosen from: none for the vocabulary, one id or fewer where it was forced."""
    if not call.token_ids or not call.prompt_token_ids:
        return Refusal.NO_TOKENS
    if len(call.logprobs) != len(call.token_ids) or not all(isfinite(x) and x <= 1e-4 for x in call.logprobs):
        return Refusal.NO_LOGPROBS
    if call.temperature <= 0:
        return Refusal.GREEDY
    if not call.choices:
        return [None for _ in call.token_ids]
    if len(call.choice_token_ids) != len(call.choices) or not all(call.choice_token_ids):
        return Refusal.NO_CHOICE_TOKENS
    return _walk(call.choice_token_ids, call.token_ids, end_token)


def _walk(choices: Sequence[Sequence[int]], taken: Sequence[int], end_token: int | None) -> list[_Allowed] | Refusal:
    """Walk down the trie of the choices: what was still possible at each token."""
    steps: list[_Allowed] = []
    alive = list(choices)
    for depth, token in enumerate(taken):
        following = {choice[depth] for choice in alive if len(choice) > depth}
        ends = any(len(choice) == depth for choice in alive)
        if not following and ends:  # a server may close a finished label with its end token
            return steps + [_FORCED for _ in taken[depth:]]
        if ends:
            if end_token is None:
                return Refusal.OPEN_END
            following.add(end_token)
        if token not in following:
            return Refusal.OUTSIDE_CHOICES
        steps.append(sorted(following))
        alive = [choice for choice in alive if len(choice) > depth and choice[depth] == token]
        if not alive:  # the end was drawn
            return steps + [_FORCED for _ in taken[depth + 1 :]]
    return steps


class _Sequence:
    """A datum in the making."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self.calls = 0
        self.tokens: list[int] = []
        self.mask: list[int] = []
        self.logprobs: list[float] = []
        self.advantages: list[float] = []
        self.rewards: list[float] = []
        self.allowed: list[_Allowed] = []

    def extends_to(self, call: ModelCall) -> bool:
        return (
            call.temperature == self.temperature
            and len(call.prompt_token_ids) >= len(self.tokens)
            and call.prompt_token_ids[: len(self.tokens)] == self.tokens
        )

    def append(self, call: ModelCall, decisions: Sequence[_Allowed], advantage: float) -> None:
        self.calls += 1
        given = call.prompt_token_ids[len(self.tokens) :]
        self._extend(given, [0] * len(given), [0.0] * len(given), 0.0, [None] * len(given))
        mask = [int(allowed is None or len(allowed) > 1) for allowed in decisions]
        logprobs = [min(0.0, value) if chosen else 0.0 for value, chosen in zip(call.logprobs, mask, strict=True)]
        sets = [allowed if chosen else None for allowed, chosen in zip(decisions, mask, strict=True)]
        self._extend(call.token_ids, mask, logprobs, advantage, sets)

    def _extend(
        self,
        tokens: Sequence[int],
        mask: Sequence[int],
        logprobs: Sequence[float],
        advantage: float,
        allowed: Sequence[_Allowed],
    ) -> None:
        self.tokens += tokens
        self.mask += mask
        self.logprobs += logprobs
        self.advantages += [advantage * chosen for chosen in mask]
        self.rewards += [0.0] * len(tokens)
        self.allowed += allowed

    def reward(self, value: float) -> None:
        """Credit the last decision."""
        self.rewards[self._end() - 1] += value

    def _end(self) -> int:
        return len(self.mask) - self.mask[::-1].index(1)

    def datum(self, trajectory: Trajectory, group_id: str, part: int, *, rewarded: bool) -> Datum:
        end = self._end()  # what follows the last decision teaches nothing
        return Datum(
            tokens=self.tokens[:end],
            mask=self.mask[:end],
            behaviour_logprobs=self.logprobs[:end],
            advantages=self.advantages[:end],
            allowed=self.allowed[:end],
            rewards=self.rewards[:end] if rewarded else None,
            temperature=self.temperature,
            policy_version=trajectory.version,
            group_id=group_id,
            rollout_id=trajectory.id,
            part=part,
        )


def write_datums(path: Path, datums: Iterable[Datum]) -> None:
    """Write datums as JSON lines, durably; equal datums are equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, encode_datums(datums))


def encode_datums(datums: Iterable[Datum]) -> bytes:
    """The JSON lines of datums."""
    return b"".join(datum.model_dump_json().encode() + b"\n" for datum in datums)


def read_datums(path: Path) -> Iterator[Datum]:
    """Read JSON lines.

    Raises:
        ConfigurationError: a line is no datum; the message names the line and what is wrong with it.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield Datum.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"]) or "datum"
                raise ConfigurationError(
                    f"{path.name} line {number}: {where}: {first['msg']}. Expected the JSON of a datum "
                    "(tokens, mask, behaviour_logprobs, advantages, allowed, ...); write it with write_datums."
                ) from error
