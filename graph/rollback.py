"""Rolling back by hand: one transaction for the move and its event, and safe to type again.

Typed again after a crash or a lost connection, a rollback must not bring the bad version back. So one that would undo
a rollback has to name the version that is to go, and one that names a version which has gone already changes nothing.
"""

from ..core import Conflict
from ..release import Channel, Entry, EventKind, Move, Pointer
from .store import Store


def roll_back(store: Store, task: str, *, by: str, reason: str, version: str | None = None) -> Pointer:
    """Point a task's live channel back at the version before; see `Session.rollback`."""
    pointer = store.channels.get(task, Channel.LIVE)
    moves = [move for move in store.channels.moves(task) if move.channel is Channel.LIVE]
    if pointer is not None and moves:
        if version is None:
            _refuse_undoing(moves[-1])
        elif not pointer.version.startswith(version):
            if moves[-1].rollback and (moves[-1].displaced or "").startswith(version):
                return pointer
            raise Conflict(
                f"{task}/live holds {pointer.version[:12]}, not {version[:12]}, so nothing was moved. "
                f"`pawl rollback {task}/live --from {pointer.version[:12]}` rolls that back."
            )
    epoch = pointer.epoch if pointer is not None else 0
    key = f"rollback/{task}/{epoch}"

    def tell(move: Move) -> Entry:
        body = {"from": move.displaced, "to": move.version, "actor": move.actor, "reason": move.reason}
        return Entry(key, EventKind.VERSION_ROLLED_BACK, "", {**body}, "")

    return store.channels.rollback(task, key=key, actor=by, reason=reason, expected_epoch=epoch, tell=tell)


def _refuse_undoing(last: Move) -> None:
    if last.rollback:
        raise Conflict(
            f"{last.task}/live was rolled back already, from {(last.displaced or '')[:12]} to {last.version[:12]}, by "
            f"{last.actor} at {last.at}: {last.reason}. Nothing was moved. "
            f"`pawl rollback {last.task}/live --from {last.version[:12]}` undoes that."
        )
