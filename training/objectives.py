"""What the weights are trained for: six objectives with their parameters, as data.

    Entropic(kl=0.5)
    GroupRelative(baseline=Baseline.LEAVE_ONE_OUT, scale=Scale.NONE)     # RLOO
    TypeAdapter(ObjectiveSettings).validate_python("ppo")                # a name stands for its defaults

Four are policy gradients: rewards become advantages (`advantages`), and one loop takes them, blind to where they came
from. Two are supervised: the best rollouts are imitated, or pairs of them compared.
"""

from enum import StrEnum
from math import log
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter


class Objective(StrEnum):
    """The name of an objective."""

    PPO = "ppo"
    """Dense rewards on the way: a value head tells which steps did better than expected."""
    GROUP_RELATIVE = "group_relative"
    """Raise the mean: a reward counts by how far it is from its group's."""
    ENTROPIC = "entropic"
    """Find one best answer: the best of a group counts far more than the rest."""
    REINFORCE = "reinforce"
    """Raise the mean without leaving the base far behind: every token pays for its distance."""
    BEST_OF_N = "best_of_n"
    """Almost nothing succeeds yet: imitate the best rollouts."""
    PREFERENCE = "preference"
    """Rewards rank but don't measure: learn from pairs of a better and a worse rollout."""

    @property
    def supervised(self) -> bool:
        """Whether it learns from chosen rollouts rather than from advantages."""
        return self in (Objective.BEST_OF_N, Objective.PREFERENCE)


class Scale(StrEnum):
    """What a centred reward is divided by."""

    STD = "std"
    NONE = "none"


class Baseline(StrEnum):
    """What is taken from a reward."""

    MEAN = "mean"
    LEAVE_ONE_OUT = "leave_one_out"
    """The mean of the others."""


class Aggregation(StrEnum):
    """How the tokens' losses of a step become one number."""

    TOKEN = "token"  # noqa: S105  (a unit of text)
    """The mean over the step's tokens (DAPO)."""
    SEQUENCE = "sequence"
    """The mean over the sequences of each one's mean (GRPO): a token of a long answer counts less."""
    CONSTANT = "constant"
    """The sum divided by sequences x a constant length (Dr. GRPO): a token counts the same in every step."""


class Anchor(StrEnum):
    """Which policy the clip keeps the trained one near."""

    BEHAVIOUR = "behaviour"
    """The one that drew the tokens."""
    START = "start"
    """The one that the job starts from; that it isn't the one that drew them is then corrected by a truncated weight.
    For rollouts of older policies, or of a server that computes otherwise; one more forward pass a job."""


_FIELDS = TypeAdapter(dict[str, object])


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LossSettings(_Frozen):
    """The policy-gradient loss; `loss` has the formula."""

    clip_low: float = Field(default=0.3, gt=0)
    """PPO's epsilon below 1. With few rollouts a job it limits, more than the rate, how far a job moves."""
    clip_high: float = Field(default=0.3, gt=0)
    """Epsilon above 1 (DAPO: 0.28 with 0.2 below)."""
    truncation: float = Field(default=2.0, gt=1)
    """Cap on importance ratios: on the weight of `Anchor.START` (truncated importance sampling), and where the clip
    doesn't bind."""
    anchor: Anchor = Anchor.BEHAVIOUR
    kl: float = Field(default=0.0, ge=0)
    """Coefficient of the KL divergence to the base; 0 leaves it out, and its forward pass."""
    aggregation: Aggregation = Aggregation.TOKEN
    constant_length: int = Field(default=1024, ge=1)
    """Tokens, for `Aggregation.CONSTANT`."""


class PPO(_Frozen):
    """PPO with generalised advantage estimation and a value head on the base's hidden states."""

    kind: Literal[Objective.PPO] = Objective.PPO
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount a decision."""
    lam: float = Field(default=0.95, ge=0, le=1)
    """Lambda of the advantage estimate: 1 is the return minus the value, 0 one step's error."""
    whiten: bool = True
    """Give the job's advantages mean 0 and deviation 1."""
    value_clip: float = Field(default=0.2, gt=0)
    """How far a value may move from what it was at the rollout, in the reward's unit."""
    value_coefficient: float = Field(default=0.5, gt=0)
    """Weight of the value loss. The head shares no weights with the policy and has its own optimiser, so this matters
    to the limit on its gradient alone."""
    value_learning_rate: float = Field(default=1e-2, gt=0)
    loss: LossSettings = LossSettings()


class Overlong(_Frozen):
    """A soft penalty for long answers (DAPO); `advantages.overlong` has the formula."""

    longest: int = Field(ge=1)
    """Tokens of a rollout's own at which the penalty is whole."""
    margin: int = Field(ge=1)
    """Tokens before that at which it begins."""
    weight: float = Field(default=1.0, gt=0)
    """The whole penalty, in the reward's unit."""


class GroupRelative(_Frozen):
    """GRPO and its kin: Dr. GRPO with no scale, RLOO with the mean of the others, DAPO with its clip and token mean."""

    kind: Literal[Objective.GROUP_RELATIVE] = Objective.GROUP_RELATIVE
    baseline: Baseline = Baseline.MEAN
    scale: Scale = Scale.STD
    resolution: float = Field(default=1e-6, ge=0)
    """A group with a smaller range of rewards says nothing and is dropped."""
    overlong: Overlong | None = None
    loss: LossSettings = LossSettings()


class Entropic(_Frozen):
    """The entropic objective ``log E[exp(beta R)]`` with adaptive beta, and the guards of its estimator."""

    kind: Literal[Objective.ENTROPIC] = Objective.ENTROPIC
    kl: float = Field(default=log(2), gt=0)
    """Target KL of the tilted distribution from the uniform one, in nats."""
    resolution: float = Field(default=1e-3, ge=0)
    """Rewards nearer than this are ties, in the reward's unit: noise must not look like a win."""
    beta_max: float = Field(default=1e3, gt=0)
    """Cap on the inverse temperature, in 1 over the reward's unit."""
    clip: float = Field(default=10.0, gt=0)
    """Cap on an advantage; the estimator's right tail is heavy."""
    loss: LossSettings = LossSettings()


class Reinforce(_Frozen):
    """REINFORCE against the mean over all rollouts, with a KL penalty to the base."""

    kind: Literal[Objective.REINFORCE] = Objective.REINFORCE
    whiten: bool = True
    """Divide by the deviation over all rollouts."""
    loss: LossSettings = LossSettings(kl=0.05)


class BestOfN(_Frozen):
    """Behavioural cloning of the best rollouts."""

    kind: Literal[Objective.BEST_OF_N] = Objective.BEST_OF_N
    keep: int = Field(default=1, ge=1)
    """Rollouts of a group that are imitated."""
    threshold: float | None = None
    """Least reward of one; none takes any that beats its group's worst."""


class Preference(_Frozen):
    """Direct preference optimisation on ranked pairs of a group."""

    kind: Literal[Objective.PREFERENCE] = Objective.PREFERENCE
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the policy that the job starts from."""
    pairs: int = Field(default=8, ge=1)
    """Most pairs of a group; the widest apart in rank come first."""
    resolution: float = Field(default=1e-6, ge=0)
    """Rewards nearer than this are ties and make no pair."""


def loss_of(objective: "PolicyGradient | Supervised") -> LossSettings:
    """The policy-gradient loss of an objective; the defaults for a supervised one, which has its own."""
    return objective.loss if isinstance(objective, PPO | GroupRelative | Entropic | Reinforce) else LossSettings()


def with_loss(objective: "PolicyGradient | Supervised", changes: object) -> "PolicyGradient | Supervised":
    """The objective with some settings of its policy-gradient loss changed; a supervised one as it is.

    Args:
        objective: any of the six.
        changes: field of `LossSettings` to value; none changes nothing.

    Raises:
        ValidationError: a field that there isn't, or a value that it can't have.
    """
    if changes is None or not isinstance(objective, PPO | GroupRelative | Entropic | Reinforce):
        return objective
    merged = LossSettings.model_validate({**objective.loss.model_dump(), **_FIELDS.validate_python(changes)})
    return objective.model_copy(update={"loss": merged})


PolicyGradient = PPO | GroupRelative | Entropic | Reinforce
Supervised = BestOfN | Preference


def _named(value: object) -> object:
    return {"kind": str(value)} if isinstance(value, str) else value


ObjectiveSettings = Annotated[
    Annotated[PolicyGradient | Supervised, Field(discriminator="kind")],
    BeforeValidator(_named),
]
"""Any of them; where a name is given it stands for its defaults."""
