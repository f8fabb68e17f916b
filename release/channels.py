"""Channels: named pointers to versions, moved by compare-and-swap.

    live = channels.get("trimul", Channel.LIVE)
    channels.move("trimul", Channel.LIVE, candidate, expected_epoch=live.epoch, key=key, reason=why, actor="ada")
    channels.rollback("trimul", key=other_key, actor="ada", reason="slower on long sequences")

A promotion and a rollback are the same move of `live`; each leaves in `previous` what it displaced, in the same
transaction, so that a rollback can itself be rolled back. Every move is kept in `channel_moves`.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Column, Connection, ForeignKeyConstraint, Integer, Row, String, Table, UniqueConstraint, select

from ..core import ConfigurationError, Conflict, Database, NotFound
from ..core.database import metadata
from ..core.faults import point
from ..core.tables import serialise, utc_now
from .ledger import Entry, append
from .registry import versions_table

channels_table = Table(
    "channels",
    metadata,
    Column("task", String, primary_key=True),
    Column("channel", String, primary_key=True),
    Column("version", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    ForeignKeyConstraint(["task", "version"], ["versions.task", "versions.id"]),
)

moves_table = Table(
    "channel_moves",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("key", String, nullable=False, unique=True),
    Column("task", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("displaced", String),
    Column("version", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("rollback", Integer, nullable=False),
    Column("reason", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("at", String, nullable=False),
    ForeignKeyConstraint(["task", "version"], ["versions.task", "versions.id"]),
    UniqueConstraint("task", "channel", "seq"),
)


class Channel(StrEnum):
    """The channels of a task."""

    LIVE = "live"
    """What is served."""
    SHADOW = "shadow"
    """What is tried beside it, its answers unseen."""
    PREVIOUS = "previous"
    """What `live` held before its last move: where a rollback goes."""


class Pointer(BaseModel):
    """Where a channel points."""

    model_config = ConfigDict(frozen=True)

    version: str
    epoch: int
    """How often the channel has moved; the first move makes it 1."""


class Move(BaseModel):
    """One move in a channel's history."""

    model_config = ConfigDict(frozen=True)

    key: str
    task: str
    channel: Channel
    displaced: str | None
    """What the channel held before; none for its first move."""
    version: str
    epoch: int
    rollback: bool
    reason: str
    actor: str
    at: str

    @property
    def pointer(self) -> Pointer:
        """Where the channel pointed after this move."""
        return Pointer(version=self.version, epoch=self.epoch)


Tell = Callable[[Move], Entry]
"""Says what the ledger is to have about a move."""


def parse_channel(name: str) -> tuple[str, Channel]:
    """Split a name such as `trimul/live` into task and channel.

    Raises:
        ConfigurationError: it isn't of that form.
    """
    task, _, channel = name.rpartition("/")
    if not task or channel not in tuple(Channel):
        raise ConfigurationError(f"{name!r} is no channel: expected TASK/{'|'.join(Channel)}, for example trimul/live.")
    return task, Channel(channel)


class Channels:
    """The channels of every task in one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, task: str, channel: Channel) -> Pointer | None:
        """Where a channel points, or none before its first move."""
        with self._db.read() as connection:
            return _pointer(connection, task, channel)

    def move(
        self,
        task: str,
        channel: Channel,
        to: str,
        *,
        expected_epoch: int,
        key: str,
        reason: str,
        actor: str,
        tell: Tell | None = None,
    ) -> Pointer:
        """Point a channel at a version, if nobody has moved it meanwhile.

        Moving a channel to where it points already is recorded and changes nothing.

        Args:
            task: the task whose channel it is.
            channel: `LIVE` or `SHADOW`; `PREVIOUS` follows `LIVE` by itself.
            to: id of a version that is registered for the task.
            expected_epoch: the epoch that the caller decided on; 0 where the channel held nothing.
            key: idempotency key; the same key again returns what was recorded, and moves nothing.
            reason: why, for the history.
            actor: who.
            tell: what to append to the ledger about it, in the same transaction.

        Raises:
            Conflict: the channel has another epoch, or the key was used for another move.
            NotFound: the version isn't registered for this task.
            ConfigurationError: the channel is `PREVIOUS`.
        """
        if channel is Channel.PREVIOUS:
            raise ConfigurationError(f"{task}/previous follows {task}/live by itself: move live, or roll back.")
        with self._db.write() as connection:
            serialise(connection, "channels")
            done = _recorded(connection, key, task, channel, rollback=False) or _move(
                connection, task, channel, to, expected_epoch, key=key, reason=reason, actor=actor, rollback=False
            )
            if tell is not None and done.version == to:
                append(connection, tell(done))
        if done.version != to:
            raise Conflict(f"The key {key!r} has already moved {task}/{channel} to {done.version[:12]}, not {to[:12]}.")
        point("channel.moved")
        return done.pointer

    def rollback(
        self,
        task: str,
        *,
        key: str,
        actor: str,
        reason: str,
        expected_epoch: int | None = None,
        tell: Tell | None = None,
    ) -> Pointer:
        """Point `live` at what it held before its last move.

        Args:
            task: the task whose live version is to go.
            key: idempotency key, as for `move`.
            actor: who.
            reason: why, for the history.
            expected_epoch: epoch of `live` that the caller decided on. An automatic rollback must give it, or two of
                them in a row would bring the bad version back; none takes whatever is live.
            tell: what to append to the ledger about it, in the same transaction.

        Raises:
            Conflict: `live` has another epoch, or the key was used for another move.
            NotFound: nothing was live before.
        """
        with self._db.write() as connection:
            serialise(connection, "channels")
            done = _recorded(connection, key, task, Channel.LIVE, rollback=True)
            if done is None:
                to, epoch = _way_back(connection, task)
                epoch = epoch if expected_epoch is None else expected_epoch
                done = _move(
                    connection, task, Channel.LIVE, to, epoch, key=key, reason=reason, actor=actor, rollback=True
                )
            if tell is not None:
                append(connection, tell(done))
        point("channel.moved")
        return done.pointer

    def moves(self, task: str) -> list[Move]:
        """Every move of a task's channels, oldest first."""
        query = select(moves_table).where(moves_table.c.task == task).order_by(moves_table.c.seq)
        with self._db.read() as connection:
            return [_as_move(row) for row in connection.execute(query)]


def _pointer(connection: Connection, task: str, channel: Channel) -> Pointer | None:
    row = connection.execute(
        select(channels_table.c.version, channels_table.c.epoch).where(
            channels_table.c.task == task, channels_table.c.channel == channel
        )
    ).first()
    return None if row is None else Pointer(version=row.version, epoch=row.epoch)


def _way_back(connection: Connection, task: str) -> tuple[str, int]:
    live, previous = (_pointer(connection, task, channel) for channel in (Channel.LIVE, Channel.PREVIOUS))
    if live is None or previous is None:
        holds = "nothing" if live is None else f"{live.version[:12]}, its first version,"
        raise NotFound(
            f"{task}/live holds {holds} and {task}/previous is empty, so there is nothing to go back to. "
            "Expected a promotion before; `pawl stop` ends all work on what is live."
        )
    return previous.version, live.epoch


def _as_move(row: Row[Any]) -> Move:
    return Move.model_validate(row, from_attributes=True)


def _recorded(connection: Connection, key: str, task: str, channel: Channel, *, rollback: bool) -> Move | None:
    row = connection.execute(select(moves_table).where(moves_table.c.key == key)).first()
    if row is None:
        return None
    move = _as_move(row)
    if (move.task, move.channel, move.rollback) != (task, channel, rollback):
        what = "rolled back" if move.rollback else "moved"
        raise Conflict(f"The key {key!r} has already {what} {move.task}/{move.channel}. Give every move its own key.")
    return move


def _move(
    connection: Connection,
    task: str,
    channel: Channel,
    to: str,
    expected_epoch: int,
    *,
    key: str,
    reason: str,
    actor: str,
    rollback: bool,
) -> Move:
    found = _pointer(connection, task, channel)
    epoch = found.epoch if found else 0
    if epoch != expected_epoch:
        holds = f"holds {found.version[:12]} at epoch {epoch}" if found else "holds nothing"
        raise Conflict(
            f"{task}/{channel} {holds}, and the move to {to[:12]} expected epoch {expected_epoch}: "
            "somebody moved it meanwhile. Read the channel again, and decide on what it holds now."
        )
    known = versions_table.c
    if connection.execute(select(known.id).where(known.task == task, known.id == to)).first() is None:
        raise NotFound(f"{task}/{channel} can't hold {to[:12]}: no such version is registered for {task!r}.")
    moves = found is None or found.version != to
    if moves:
        _set(connection, task, channel, to)
        point("channel.half")
        if channel is Channel.LIVE and found is not None:
            _set(connection, task, Channel.PREVIOUS, found.version)
    move = Move(
        key=key,
        task=task,
        channel=channel,
        displaced=found.version if found else None,
        version=to,
        epoch=epoch + moves,
        rollback=rollback,
        reason=reason,
        actor=actor,
        at=utc_now(),
    )
    connection.execute(moves_table.insert().values(**move.model_dump()))
    point("channel.written")
    return move


def _set(connection: Connection, task: str, channel: Channel, version: str) -> None:
    c = channels_table.c
    updated = connection.execute(
        channels_table.update().where(c.task == task, c.channel == channel).values(version=version, epoch=c.epoch + 1)
    )
    if updated.rowcount == 0:
        connection.execute(channels_table.insert().values(task=task, channel=channel, version=version, epoch=1))
