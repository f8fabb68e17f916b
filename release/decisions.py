"""Decisions: what people are asked at the gate, and the one answer that counts.

    decisions.ask(thread, interrupt_id, request)
    decisions.record(thread, interrupt_id, {"type": "approve"}, actor="ada")

LangGraph has no lock on a thread: two processes that resume it at the same moment both run on. So an answer is
first a row here, unique on (thread, interrupt id); whoever writes it resumes, and a crash in between applies the
recorded answer again.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue
from sqlalchemy import Column, Connection, Row, String, Table, select

from ..core import ConfigurationError, Conflict, Database, NotFound
from ..core.database import metadata
from ..core.faults import point
from ..core.tables import CanonicalJson, insert_new, utc_now

requests_table = Table(
    "requests",
    metadata,
    Column("thread", String, primary_key=True),
    Column("interrupt_id", String, primary_key=True),
    Column("request", CanonicalJson, nullable=False),
    Column("asked", String, nullable=False),
)

decisions_table = Table(
    "decisions",
    metadata,
    Column("thread", String, primary_key=True),
    Column("interrupt_id", String, primary_key=True),
    Column("answer", CanonicalJson, nullable=False),
    Column("actor", String, nullable=False),
    Column("decided", String, nullable=False),
)


class Request(BaseModel):
    """What waits, or waited, for a person."""

    model_config = ConfigDict(frozen=True)

    thread: str
    interrupt_id: str
    request: JsonValue
    asked: str


class Answer(BaseModel):
    """What was decided, by whom and when."""

    model_config = ConfigDict(frozen=True)

    thread: str
    interrupt_id: str
    answer: JsonValue
    actor: str
    decided: str


class Decisions:
    """The requests and decisions of one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def ask(self, thread: str, interrupt_id: str, request: JsonValue) -> None:
        """Record what is asked. Idempotent: what people may have seen already stays."""
        values = {"thread": thread, "interrupt_id": interrupt_id, "request": request, "asked": utc_now()}
        with self._db.write() as connection:
            insert_new(connection, requests_table, values)
        point("decision.asked")

    def record(self, thread: str, interrupt_id: str, answer: JsonValue, actor: str) -> None:
        """Decide, once.

        Raises:
            NotFound: nothing of that id was asked.
            Conflict: it was decided before, or at this moment by somebody else.
            ConfigurationError: the answer is empty, or nobody signs it.
        """
        if not answer:
            raise ConfigurationError(f"The answer to {interrupt_id!r} is empty. Approve, edit, reject or respond.")
        if not actor.strip():
            raise ConfigurationError(f"The answer to {interrupt_id!r} has no name to it. Say who decides.")
        values = {"thread": thread, "interrupt_id": interrupt_id, "answer": answer, "actor": actor}
        point("decision.recording")
        with self._db.write() as connection:
            if _first(connection, requests_table, thread, interrupt_id) is None:
                raise NotFound(
                    f"Nothing with the id {interrupt_id!r} was asked in {thread!r}. `pawl pending` lists what waits."
                )
            if not insert_new(connection, decisions_table, {**values, "decided": utc_now()}):
                row = _first(connection, decisions_table, thread, interrupt_id)
                there = _answer(row) if row is not None else None
                said = f"{there.actor} at {there.decided}: {_brief(there.answer)}" if there else "somebody just now"
                raise Conflict(
                    f"{interrupt_id!r} in {thread!r} was decided by {said}. A decision is final; "
                    "fork the campaign to decide otherwise."
                )
        point("decision.recorded")

    def answer(self, thread: str, interrupt_id: str) -> Answer | None:
        """The decision, or none while it is pending."""
        with self._db.read() as connection:
            row = _first(connection, decisions_table, thread, interrupt_id)
        return None if row is None else _answer(row)

    def pending(self, thread: str | None = None) -> list[Request]:
        """What was asked and not yet decided, in one thread or in all, oldest first."""
        asked, decided = requests_table.c, decisions_table.c
        query = (
            select(requests_table)
            .outerjoin(decisions_table, (asked.thread == decided.thread) & (asked.interrupt_id == decided.interrupt_id))
            .where(decided.thread.is_(None))
            .order_by(asked.asked, asked.interrupt_id)
        )
        if thread is not None:
            query = query.where(asked.thread == thread)
        with self._db.read() as connection:
            return [Request.model_validate(row, from_attributes=True) for row in connection.execute(query)]

    def history(self, thread: str) -> list[tuple[Request, Answer | None]]:
        """Everything that was asked in a thread, oldest first, each with its answer or none."""
        asked, decided = requests_table.c, decisions_table.c
        query = select(requests_table).where(asked.thread == thread).order_by(asked.asked, asked.interrupt_id)
        with self._db.read() as connection:
            requests = [Request.model_validate(row, from_attributes=True) for row in connection.execute(query)]
            answers = connection.execute(select(decisions_table).where(decided.thread == thread))
            found = {row.interrupt_id: _answer(row) for row in answers}
        return [(each, found.get(each.interrupt_id)) for each in requests]


def _first(connection: Connection, table: Table, thread: str, interrupt_id: str) -> Row[Any] | None:
    return connection.execute(
        select(table).where(table.c.thread == thread, table.c.interrupt_id == interrupt_id)
    ).first()


def _answer(row: Row[Any]) -> Answer:
    return Answer.model_validate(row, from_attributes=True)


def _brief(answer: JsonValue) -> str:
    if isinstance(answer, dict):
        decisions = answer.get("decisions")
        first = decisions[0] if isinstance(decisions, list) and decisions else answer
        return str(first.get("type") if isinstance(first, dict) else first)[:80]
    return str(answer)[:80]
