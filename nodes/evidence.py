"""What the Feedback-Agent and the scaffold editor are shown: one round's trajectories and what past rounds brought."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ..core import Trajectory, Usage
from ..evals.scaffold import ScaffoldConfig
from ..evals.task import Metric
from .decision import Diagnosis, Lever, Objective, Operator


class RoundRecord(BaseModel):
    """A past round: what was pulled, what was expected, what came of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: int
    lever: Lever
    diagnosis: Diagnosis
    operator: Operator | None = None
    """For the scaffold."""
    objective: Objective | None = None
    """For the weights."""
    expected_gain: float = 0.0
    before: float | None = None
    """Live's mean grade in the target race, in the metric's unit and direction."""
    after: float | None = None
    """The candidate's, on the same items and seeds."""
    outcomes: dict[str, str] = {}
    """Race to outcome; nothing else is known of a sealed race."""
    promoted: bool = False
    cost: Usage = Usage()
    """What the round took, sealed races at their fixed bill."""
    scaffold: str | None = None
    """Digest of the candidate's scaffold tree, where the scaffold was changed."""
    response: str = ""
    """What a person answered at the gate."""


class UsdRates(BaseModel):
    """About what usage costs, in US dollars: for weighing levers, never for counting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_token: float = 0.0
    output_token: float = 0.0
    cpu_second: float = 0.0

    def of(self, cost: Usage) -> float:
        """The price of a cost."""
        tokens = cost.input_tokens * self.input_token + cost.output_tokens * self.output_token
        return tokens + cost.cpu_seconds * self.cpu_second


class BudgetLeft(BaseModel):
    """What the campaign may still spend, in its narrowest scope; none is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: float | None = None
    verifications: float | None = None
    training_steps: float | None = None
    usd: float | None = None
    rates: UsdRates = UsdRates()

    def pays(self, cost: Usage) -> bool:
        """Whether every limit covers the cost."""
        pairs = (
            (self.tokens, cost.tokens),
            (self.verifications, cost.verifications),
            (self.training_steps, cost.training_steps),
            (self.usd, self.rates.of(cost)),
        )
        return all(left is None or amount <= left for left, amount in pairs)


class RoundEvidence(BaseModel):
    """Everything that a decision may rest on. Holds only what the optimiser may see."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    round: int
    metric: Metric
    trajectories: list[Trajectory]
    """All of the round, graded."""
    earlier: list[Trajectory] = []
    """Graded trajectories of earlier visible rounds: read for refusals and for the best outputs, never for rates."""
    payloads: dict[str, dict[str, JsonValue]] = {}
    """What the agent was given, by item id; an exemplar needs its item's."""
    scaffold: ScaffoldConfig | None = None
    """The live scaffold's typed part, or none where it has no readable one."""
    sealed: int = Field(default=0, ge=0)
    """Rollouts that one look of a round's sealed races takes, of live and candidate together."""
    guarded: int = Field(default=0, ge=0)
    """Other tasks with a live version in this home: trained weights must not be worse on them."""
    history: list[RoundRecord] = []
    """Past rounds of the campaign, oldest first."""
    budget: BudgetLeft = Field(default=BudgetLeft())
    trainable: bool
    """Whether the endpoint takes adapters and a trainer is at hand."""
    capable: bool
    """Whether the model can write free text and code."""

    def reward(self, trajectory: Trajectory) -> float:
        """The grade turned so that more is better; the metric's worst where there is none, or none that is finite."""
        grade = trajectory.grade
        worst, best = self.metric.signed(self.metric.worst), self.metric.signed(self.metric.best)
        if grade is None:
            return worst
        value = self.metric.signed(grade.value)
        return value if worst <= value <= best else best if value > best else worst

    def groups(self) -> Mapping[str, list[Trajectory]]:
        """The round's trajectories by item, both in a fixed order."""
        found: dict[str, list[Trajectory]] = {}
        for trajectory in sorted(self.trajectories, key=lambda one: (one.item, one.id)):
            found.setdefault(trajectory.item, []).append(trajectory)
        return found
