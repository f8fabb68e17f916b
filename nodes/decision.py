"""What the Feedback-Agent decides each round: which lever, why, on what evidence, and what it should bring.

A `Decision` lives in the graph's state: plain JSON, no text longer than a paragraph, trajectories by id.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..core import Usage
from ..training.objectives import Objective, ObjectiveSettings

__all__ = ["Decision", "Diagnosis", "Lever", "Objective", "Operator"]


class Lever(StrEnum):
    """What a round pulls; exactly one."""

    SCAFFOLD = "scaffold"
    WEIGHTS = "weights"
    STOP = "stop"
    """Neither lever is worth its cost: the campaign ends."""


class Diagnosis(StrEnum):
    """What is in the way: a class of failure, or a signal in the measurements."""

    REFUSED = "refused"
    """Well-formed outputs that a check turned down before judging them (a compiler's limits, a rule of the task)."""
    WRONG = "wrong"
    """Outputs that were judged, and found incorrect or too imprecise."""
    MALFORMED = "malformed"
    """No output, or none in the form that the task asks for."""
    CRASHED = "crashed"
    """The scaffold died, or what it submitted died or hung."""
    TIMED_OUT = "timed-out"
    """The scaffold ran out of time."""
    OVERFLOWED = "overflowed"
    """The scaffold printed or wrote more than it may."""
    MODEL_FAILED = "model-failed"
    """The endpoint was down, slow or garbled: no lever mends that."""

    SPREAD = "spread"
    """Grades differ between attempts at the same item: there is something to select or to learn."""
    LIKELIHOOD = "likelihood"
    """Within an item, the likelier answers are the better ones, or the worse ones."""
    PLATEAU = "plateau"
    """Every lever at hand has been pulled in vain several times in a row."""
    NO_PROMISE = "no-promise"
    """No lever promises an improvement that could be told from none."""
    BUDGET = "budget"
    """What is left can't pay for what would help."""


class Operator(StrEnum):
    """How a scaffold is changed."""

    PRUNE = "prune"
    """Forbid partial assignments that are always refused."""
    EXEMPLARS = "exemplars"
    """Show the best outputs so far."""
    SAMPLES = "samples"
    """Draw one answer more and keep the best."""
    REPAIRS = "repairs"
    """Draw again, once more, when the verifier refuses."""
    LIGHTER = "lighter"
    """Draw one answer, or one repair, fewer."""
    COOLER = "cooler"
    WARMER = "warmer"
    PROMPT = "prompt"
    """Write or change a part of the prompt."""
    FILES = "files"
    """Replace whole files; needs a capable model."""
    NONE = "none"
    """Nothing applies."""


class Decision(BaseModel):
    """One lever, with its reasons.

    Raises:
        ValueError: weights without an objective, another lever with one, or an argued objective without its reason.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lever: Lever
    diagnosis: Diagnosis
    objective: ObjectiveSettings | None = None
    """What the weights are to be trained for, with its parameters; set for that lever alone."""
    objective_reason: str = ""
    """Why that one, with the figures that it rests on."""
    default_objective: ObjectiveSettings | None = None
    """What the written rule (`training.selector`) would have chosen, where the agent argued for another."""
    reason: str
    evidence: list[str] = []
    """Ids of the trajectories that it rests on."""
    expected_gain: float = 0.0
    """Expected rise of the mean grade, in the metric's unit, more being better whatever the metric's direction."""
    expected_cost: Usage = Field(default=Usage())
    """What the round is expected to cost, in units that repeat exactly."""

    @model_validator(mode="after")
    def _objective_goes_with_weights(self) -> "Decision":
        if (self.objective is not None) != (self.lever is Lever.WEIGHTS):
            named = self.objective.kind if self.objective is not None else None
            raise ValueError(f"lever {self.lever} with objective {named}: weights, and only they, need one")
        if self.default_objective is not None and not (self.objective is not None and self.objective_reason):
            raise ValueError(
                f"the rule's objective {self.default_objective.kind} was set aside: expected another one and the reason"
            )
        return self
