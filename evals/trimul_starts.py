"""What the kernel task's attempts begin from: parents by PUCT, from the trajectories of earlier rounds.

An attempt's payload gains `starts`, the kernels to develop further, and `best`, the best ones known; each with its
source, its digest, what it is worth and where its time goes. Kernels under different precision contracts aren't
compared: each contract has a tree of its own, grown from the seed kernel.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from pydantic import JsonValue

from ..core import ToolCall, Trajectory
from ..kernels.generation import Kernel, Store, Trial, digest_source, grow, pick
from .evaluate import Attempt
from .task import Item

STARTS = 2
"""Kernels that an attempt is given to develop further."""
BEST = 2
"""Best kernels that it is shown."""
SHOWN = ("time_us", "launches")
"""What of a kernel's verdict goes with it."""


def continue_attempts(
    attempts: Sequence[Attempt], earlier: Iterable[Trajectory], visible: Mapping[str, Item], seed_source: str
) -> list[Attempt]:
    """The attempts with their starts; those at a contract under which nothing was accepted yet stay as they are.

    Args:
        attempts: of one round.
        earlier: of the rounds before, in their order; what isn't of a visible item is left out.
        visible: items of the optimise split, by id.
        seed_source: the kernel that everything descends from.
    """
    trials: dict[JsonValue, list[Trial]] = {}
    for trajectory in earlier:
        item = visible.get(trajectory.item)
        if item is not None:
            trials.setdefault(_contract(item), []).extend(trials_of(trajectory, item))
    places: dict[JsonValue, list[int]] = {}
    for place, (item, _) in enumerate(attempts):
        places.setdefault(_contract(item), []).append(place)
    found = list(attempts)
    for contract, mine in places.items():
        store = grow(seed_source, trials.get(contract, []))
        if len(store.open) < 2:
            continue
        parents = iter(pick(store, STARTS * len(mine)))
        for place in mine:
            item, seed = attempts[place]
            starts = {kernel.digest: kernel for kernel in (next(parents) for _ in range(STARTS))}
            found[place] = _given(item, list(starts.values()), store), seed
    return found


def trials_of(trajectory: Trajectory, item: Item) -> Iterator[Trial]:
    """Every module that a rollout put to the verifier or answered with, in their order, and what it was worth."""
    checked: set[str] = set()
    for step in trajectory.steps:
        if isinstance(step, ToolCall) and step.name == "verify" and isinstance(step.result, dict):
            accepted, value = step.result.get("accepted"), step.result.get("value")
            written = source_of(step.arguments.get("output"))
            if written is not None and isinstance(accepted, bool):
                checked.add(digest_source(written[0]))
                yield _trial(written, value if accepted else None, step.result, item)
    grade, written = trajectory.grade, source_of(trajectory.output)
    if grade is not None and written is not None and digest_source(written[0]) not in checked:
        yield _trial(written, grade.value if grade.valid else None, grade.details, item)


def source_of(output: JsonValue) -> tuple[str, str | None] | None:
    """The module of an output and the digest of the kernel that it was developed from; none for a schedule."""
    value = output
    if isinstance(value, str):
        try:
            value = cast("JsonValue", json.loads(value))
        except (ValueError, RecursionError):
            return value, None  # a module's plain text
    if not isinstance(value, dict):
        return None
    source, parent = value.get("source"), value.get("parent")
    if not isinstance(source, str):
        return None
    return source, parent if isinstance(parent, str) else None


def _trial(written: tuple[str, str | None], value: JsonValue, told: Mapping[str, JsonValue], item: Item) -> Trial:
    about = {name: told[name] for name in SHOWN if name in told}
    return Trial(
        source=written[0],
        parent=written[1],
        value=float(value) if isinstance(value, int | float) else None,
        about={"variant": item.payload["variant"], **about},
    )


def _contract(item: Item) -> JsonValue:
    variant = item.payload.get("variant")
    return variant.get("precision") if isinstance(variant, dict) else None


def _given(item: Item, starts: Sequence[Kernel], store: Store) -> Item:
    told: dict[str, JsonValue] = {
        "starts": [_shown(kernel) for kernel in starts],
        "best": [_shown(kernel) for kernel in store.best(BEST)],
    }
    return item.model_copy(update={"payload": {**item.payload, **told}})


def _shown(kernel: Kernel) -> JsonValue:
    return {"digest": kernel.digest, "source": kernel.source, "value": kernel.value, **kernel.about}
