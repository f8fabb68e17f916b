"""Gate: the node where a person decides. It only asks.

What it asks was written by shadow; what was decided is carried out by the node after it.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, cast

from langgraph.types import interrupt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..core.artifacts import check_relative
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import Approval, ApprovalMode, State, Verdict

AUTO_ACTOR = "rule:auto"
"""Who approved, where the campaign was started with automatic approval."""


class _Decision(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ApproveDecision(_Decision):
    """Promote the candidate."""

    type: Literal["approve"] = "approve"


class EditedAction(BaseModel):
    """The action as it should be: `args.files` maps scaffold paths to their new text."""

    model_config = ConfigDict(frozen=True)

    name: str = "promote"
    args: dict[str, dict[str, str]]

    @field_validator("args")
    @classmethod
    def _stay_inside(cls, args: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for path in args.get("files", {}):
            check_relative(path)  # here, since an answer that was recorded is final
        return args


class EditDecision(_Decision):
    """Change the scaffold; the result is a new candidate, which races again."""

    type: Literal["edit"] = "edit"
    edited_action: EditedAction


class RejectDecision(_Decision):
    """Discard the candidate."""

    type: Literal["reject"] = "reject"
    message: str = ""


class RespondDecision(_Decision):
    """Discard the candidate and tell the Feedback-Agent something."""

    type: Literal["respond"] = "respond"
    message: str = Field(min_length=1)


class ApprovalResponse(BaseModel):
    """An answer at the gate, in the shape of LangChain's human-in-the-loop responses, signed with a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decisions: list[
        Annotated[ApproveDecision | EditDecision | RejectDecision | RespondDecision, Field(discriminator="type")]
    ] = Field(min_length=1, max_length=1)
    actor: str = Field(min_length=1)
    reason: str = ""

    def to_approval(self) -> Approval:
        """The answer as the state keeps it."""
        decision = self.decisions[0]
        files: Mapping[str, str] = (
            decision.edited_action.args.get("files", {}) if isinstance(decision, EditDecision) else {}
        )
        message = decision.message if isinstance(decision, RejectDecision | RespondDecision) else ""
        return Approval(
            verdict=Verdict(decision.type), actor=self.actor, reason=message or self.reason, files=dict(files)
        )


async def gate(state: State, runtime: NodeRuntime) -> Update:
    """Ask, or answer by rule where the campaign says so."""
    if state["rules"].approve is ApprovalMode.AUTO:
        reason = "passed every race; this campaign approves by rule"
        return {"approval": Approval(verdict=Verdict.APPROVE, actor=AUTO_ACTOR, reason=reason)}
    request = runtime.context.artifacts.get_json(cast(str, state["request"]))
    answer = interrupt(request, response_schema=ApprovalResponse)
    return {"approval": answer.to_approval()}


SPEC = NodeSpec(name="gate", run=gate, reads=("rules", "request"), writes=("approval",), needs=(Need.ARTIFACTS,))
