# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The ledger: an append-only Merkle log of what happened, joined by trace id.

    ledger.append("c1/3/promoted", EventKind.VERSION_PROMOTED, "c1", {"version": version_id}, trace_id)
    checkpoint = ledger.root()              # keep it somewhere else
    faults = ledger.verify(checkpoint)      # [] when nothing was edited, dropped, cut or rewritten

A leaf is the canonical JSON of the whole event, time and trace id included; leaves and nodes are hashed as in
RFC 6962. Events of two runs are compared by their `essence`, which leaves out time and trace id; so what differs
between equal runs (a CPU time, say) has no place in a body.
"""

import hashlib
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, JsonValue
from pymerkle import InclusionProof, InmemoryTree, InvalidProof, verify_inclusion
from sqlalchemy import Column, Connection, Integer, Row, String, Table, func, select

from ..core import Conflict, Database, NotFound, canonical_json
from ..core.database import metadata
from ..core.faults import point
from ..core.tables import CanonicalJson, serialise, utc_now

events_table = Table(
    "ledger",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("event_id", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("campaign", String, nullable=False, index=True),
    Column("body", CanonicalJson, nullable=False),
    Column("trace_id", String, nullable=False),
    Column("at", String, nullable=False),
    Column("leaf_hash", String, nullable=False),
)


class EventKind(StrEnum):
    """The words of the loop itself; other nodes may bring words of their own."""

    CAMPAIGN_COMMITTED = "campaign.committed"
    """The judge's commitment to the sealed splits, before anything is drawn from them."""
    CAMPAIGN_STARTED = "campaign.started"
    CAMPAIGN_REVEALED = "campaign.revealed"
    ROUND_EVALUATED = "round.evaluated"
    LEVER_DECIDED = "lever.decided"
    CANDIDATE_MADE = "candidate.made"
    CANDIDATE_DISCARDED = "candidate.discarded"
    TRAINING_PREPARED = "training.prepared"
    """What a training job learns from, and what was left out by which rule."""
    TRAINING_FAILED = "training.failed"
    APPROVAL_REQUESTED = "approval.requested"
    VERSION_PROMOTED = "version.promoted"
    VERSION_MONITORED = "version.monitored"
    VERSION_ROLLED_BACK = "version.rolled-back"


class Event(BaseModel):
    """One entry of the ledger."""

    model_config = ConfigDict(frozen=True)

    seq: int
    """Position in the log, from 1, without gaps."""
    event_id: str
    kind: str
    campaign: str
    body: dict[str, JsonValue]
    trace_id: str
    at: str

    @property
    def essence(self) -> tuple[str, str, bytes]:
        """What is equal between equal runs: event id, kind, and the body as canonical JSON."""
        return self.event_id, self.kind, canonical_json(self.body)

    @property
    def leaf(self) -> bytes:
        """What the tree hashes."""
        return canonical_json(self)


class Entry(NamedTuple):
    """What is to be appended."""

    event_id: str
    """Idempotency key."""
    kind: EventKind | str
    campaign: str
    body: dict[str, JsonValue]
    trace_id: str


class Checkpoint(NamedTuple):
    """The state of the log at one moment."""

    size: int
    root: str
    """Merkle tree hash (RFC 6962 section 2.1, SHA-256) as hexadecimal digits."""


class Fault(NamedTuple):
    """Something in the ledger that appending can't have left there."""

    seq: int
    """The entry where it shows."""
    problem: str


class Inclusion(BaseModel):
    """Proof that one event is in the log of a checkpoint; it needs no database to check."""

    model_config = ConfigDict(frozen=True)

    event: Event
    proof: dict[str, JsonValue]

    def holds(self, checkpoint: Checkpoint) -> bool:
        """Whether the event is the one that the checkpoint's log has at its position."""
        try:
            verify_inclusion(
                _leaf_hash(self.event),
                bytes.fromhex(checkpoint.root),
                InclusionProof.deserialize(self.proof),
                index=self.event.seq,
                size=checkpoint.size,
                algorithm="sha256",
            )
        except (InvalidProof, ValueError):
            return False
        return True


class Ledger:
    """The ledger of one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def append(
        self, event_id: str, kind: EventKind | str, campaign: str, body: dict[str, JsonValue], trace_id: str
    ) -> int:
        """Append an event and return its sequence number.

        Idempotent on the event id: the same event again is not appended, and keeps its first time and trace id.

        Raises:
            Conflict: the id is taken by an event of another kind, campaign or body.
        """
        point("ledger.appending")
        with self._db.write() as connection:
            seq, new = append(connection, Entry(event_id, kind, campaign, body, trace_id))
        if new:
            point("ledger.appended")
        return seq

    def events(self, campaign: str | None = None) -> list[Event]:
        """The events of a campaign, or all of them, in the order they were appended."""
        query = select(events_table).order_by(events_table.c.seq)
        if campaign is not None:
            query = query.where(events_table.c.campaign == campaign)
        with self._db.read() as connection:
            return [_event(row) for row in connection.execute(query)]

    def root(self) -> Checkpoint:
        """Size and root hash of the log as it stands."""
        events = self.events()
        return Checkpoint(len(events), _tree(events).get_root().hex())

    def verify(self, checkpoint: Checkpoint | None = None) -> list[Fault]:
        """Recompute every leaf and look for edits and gaps.

        Args:
            checkpoint: an earlier `root()` that was kept elsewhere. Without one, a log that was rewritten as a whole,
                or cut at its end, can't be told from an honest one.

        Returns:
            What was found, by position; empty when the log is sound.
        """
        with self._db.read() as connection:
            rows = connection.execute(select(events_table).order_by(events_table.c.seq)).all()
        faults: list[Fault] = []
        events = [_event(row) for row in rows]
        for position, (row, event) in enumerate(zip(rows, events, strict=True), start=1):
            if event.seq != position:
                faults.append(Fault(position, f"a gap: expected entry {position}, found {event.seq}"))
                break
            if row.leaf_hash != _leaf_hash(event).hex():
                faults.append(
                    Fault(position, f"edited: {event.event_id!r} no longer has the hash it was appended with")
                )
        if checkpoint is not None:
            if len(events) < checkpoint.size:
                faults.append(Fault(len(events) + 1, f"cut: the checkpoint has {checkpoint.size} entries"))
            elif _tree(events).get_root(checkpoint.size).hex() != checkpoint.root:
                faults.append(Fault(checkpoint.size, "rewritten: the entries up to here have another root"))
        return faults

    def prove_inclusion(self, seq: int) -> Inclusion:
        """Prove that one event is in the log of the present `root()`.

        Raises:
            NotFound: there is no such entry.
        """
        events = self.events()
        if not 1 <= seq <= len(events):
            raise NotFound(f"The ledger has no entry {seq}: expected 1 to {len(events)}.")
        return Inclusion(event=events[seq - 1], proof=_tree(events).prove_inclusion(seq).serialize())


def append(connection: Connection, entry: Entry) -> tuple[int, bool]:
    """Append an event within a transaction that does what it tells of; see `Ledger.append`.

    Returns:
        Its sequence number, and whether it is new.
    """
    serialise(connection, "ledger")
    row = connection.execute(select(events_table).where(events_table.c.event_id == entry.event_id)).first()
    if row is not None:
        there = _event(row)
        told = (entry.kind, entry.campaign, canonical_json(entry.body))
        if (there.kind, there.campaign, canonical_json(there.body)) != told:
            raise Conflict(
                f"The ledger's event {entry.event_id!r} says something else: {there.kind} of campaign "
                f"{there.campaign!r} at {there.at}. Append this one under another id."
            )
        return there.seq, False
    last = connection.scalar(select(func.max(events_table.c.seq))) or 0
    event = Event(
        seq=last + 1,
        event_id=entry.event_id,
        kind=str(entry.kind),
        campaign=entry.campaign,
        body=entry.body,
        trace_id=entry.trace_id,
        at=utc_now(),
    )
    connection.execute(events_table.insert().values(**event.model_dump(mode="json"), leaf_hash=_leaf_hash(event).hex()))
    return event.seq, True


def _event(row: Row[Any]) -> Event:
    return Event.model_validate(row, from_attributes=True)


def _leaf_hash(event: Event) -> bytes:
    return hashlib.sha256(b"\x00" + event.leaf).digest()


def _tree(events: list[Event]) -> InmemoryTree:
    return InmemoryTree.init_from_entries([event.leaf for event in events], algorithm="sha256")
