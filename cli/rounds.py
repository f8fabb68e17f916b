"""A round as a row: what was pulled and why, what came of it, what it cost."""

from ..nodes.decision import Decision
from ..nodes.rounds import RoundRow

HEADINGS = ("round", "lever", "why", "candidate", "target", "races", "approval", "live", "tokens", "CPU s")


def round_row(row: RoundRow) -> list[str]:
    """The cells of one round, under `HEADINGS`."""
    target = row.races[0] if row.races else None
    before_after = "-"
    if target is not None and target.before is not None and target.after is not None:
        interval = f" [{target.low:+.2f}, {target.high:+.2f}]" if target.low is not None else ""
        basis = " (estimated)" if target.estimated else ""
        before_after = f"{target.before:+.3f} -> {target.after:+.3f}{interval}{basis}"
    return [
        str(row.round),
        row.decision.lever.value,
        _why(row.decision),
        f"{row.candidate.version[:8]} {row.candidate.operator}" if row.candidate is not None else "none",
        before_after,
        ", ".join(f"{race.race.value} {race.outcome.value}" for race in row.races) or "-",
        f"{row.approval.verdict.value} by {row.approval.actor}" if row.approval is not None else row.fate,
        row.live[:8],
        f"{row.usage.tokens:,}",
        f"{row.usage.cpu_seconds:.0f}",
    ]


def _why(decision: Decision) -> str:
    """The reason of a decision, and where it set the written rule's objective aside, the reason for that."""
    if decision.objective is None or decision.default_objective is None:
        return decision.reason
    named, rule = decision.objective.kind, decision.default_objective.kind
    return f"{decision.reason} Objective {named}, where the rule says {rule}: {decision.objective_reason}"
