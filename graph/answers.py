"""Answers at the gate, checked before they are recorded: what is recorded is final."""

from collections.abc import Mapping

from pydantic import JsonValue, ValidationError

from ..core import ConfigurationError
from ..nodes.gate import ApprovalResponse, EditDecision
from .store import Store
from .views import Request


def parse_answer(answer: Mapping[str, JsonValue]) -> ApprovalResponse:
    """Read an answer in LangChain's shape.

    Raises:
        ConfigurationError: it is empty or not of that shape.
    """
    try:
        return ApprovalResponse.model_validate(answer)
    except ValidationError as error:
        raise ConfigurationError(
            f"This is no answer at the gate: {error.errors()[0]['msg']} at {error.errors()[0]['loc']}. "
            'Expected {"decisions": [{"type": "approve" | "edit" | "reject" | "respond", ...}], '
            '"actor": NAME, "reason": TEXT}.'
        ) from error


def check_edit(store: Store, request: Request, response: ApprovalResponse) -> None:
    """Return if an answer is no edit, or one that changes the candidate's scaffold.

    Raises:
        ConfigurationError: the edit leaves every file as it is.
    """
    decision = response.decisions[0]
    if not isinstance(decision, EditDecision):
        return
    candidate = store.registry.get(request.version).version
    files = store.artifacts.get_tree(candidate.scaffold)
    edited = decision.edited_action.args.get("files", {})
    if all(files.get(path) == text.encode() for path, text in edited.items()):
        raise ConfigurationError(
            f"The edit changes nothing in the scaffold of {candidate.id[:12]}, of {', '.join(sorted(files))}. "
            "Give at least one file with another text, or approve or reject the candidate as it is."
        )
