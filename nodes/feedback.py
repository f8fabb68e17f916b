"""The Feedback-Agent Protocol: from one round's evidence to one decision.

    decision = await MeasuredFeedback().decide(evidence)

Two implementations: `feedback_measured` reasons from the measurements alone, `feedback_model` asks a language model.
"""

from typing import Protocol

from .decision import Decision
from .evidence import RoundEvidence


class FeedbackAgent(Protocol):
    """Chooses the lever of the next change."""

    async def decide(self, evidence: RoundEvidence) -> Decision:
        """Read every trajectory of the round and decide; never raises for what the trajectories hold."""
        ...
