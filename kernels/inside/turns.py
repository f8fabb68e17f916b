# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""What atomic operations answer in a launch that is only counted: programs are taken to have fair turns.

Of the programs that add to an address, each has its place in the order of their ids. The first answer is the place
times what is added, each later one is a whole round on: a queue is drained evenly by a persistent grid, and one of
the programs that share a semaphore comes last. Who shares an address is found by running the programs, or a sample of
a large grid, with few trips of their loops; until it is known, everyone is told to be late, which finds a queue empty.
A lock is free. Who asks a place in memory again and again waits, and is told more each time.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from . import interpret
from .absent import MOST, Absent, Endless, Trips, contents, empty_product, storage_of
from .atomics import Change

ALL = 1056
"""Programs up to which each is counted with its own turns: eight on each of 132 multiprocessors."""
CENSUS = 2048
"""Programs that are asked what they add to, at most."""
PASSES = 4
"""How often, as what programs are told decides what they ask next."""
FEW = 4
"""Programs that share an address, up to which every place is counted; of more, the first, a middle and the last."""
CLASSES = 2
"""Storages for whose addresses different places are counted, in a large grid."""
LATE = 1 << 30
PATIENCE = 8
"""How often the same may be asked in a row before it counts as waiting."""


@dataclass(frozen=True)
class Arrivals:
    """Which programs add to which address."""

    programs: Mapping[int, tuple[int, ...]]
    """By address, ascending."""
    sharers: Mapping[int, int]
    """By storage, how many programs share one of its addresses, typically."""


class Turns:
    """Answers the programs of one batch."""

    def __init__(self, arrivals: Arrivals, places: Mapping[int, int] | None = None) -> None:
        """Take who shares what.

        Args:
            arrivals: of the whole grid, or of a sample.
            places: by storage, the place in the order that every program of the batch takes; by default each has its
                own.
        """
        self._arrivals, self._places = arrivals, places
        self._ids = np.zeros(0, np.int64)
        self._drawn: dict[tuple[int, int], int] = {}
        self._question: tuple[str, bytes] | None = None
        self._times = 0
        self.rounds = 1
        """The most additions of a program to one address so far."""

    def begin(self, ids: np.ndarray) -> None:
        """Note which programs ask."""
        self._ids = ids

    def waited(self, kind: str, pointers: np.ndarray) -> int:
        """How long programs have waited at the place that they now ask; 0 if they don't seem to."""
        question = (kind, pointers.tobytes()) if pointers.size == len(pointers) else None
        self._times = self._times + 1 if question is not None and question == self._question else 0
        self._question = question
        times = self._times - PATIENCE
        return max(times if times < 1024 else LATE, 0)

    def answer(self, pointers: np.ndarray, mask: np.ndarray, dtype: np.dtype, change: Change) -> np.ndarray:
        """The old contents, as in memory; zeros for whole blocks."""
        waited = self.waited(change.name, pointers)
        most = np.iinfo(dtype).max >> 1 if dtype.kind in "iu" else LATE
        if waited:
            return np.full((1, *pointers.shape[1:]), min(waited, most), dtype)
        if change.name == "CAS":
            return change.operand
        if change.name != "ADD" or pointers.size != len(pointers):
            return np.zeros((1, *pointers.shape[1:]), dtype)
        old = np.zeros(len(pointers), np.int64)
        addresses, added = pointers.reshape(-1), change.operand.reshape(-1)
        for lane in np.flatnonzero(mask.reshape(-1)):
            turn = self._turn(int(lane), int(addresses[lane]), bool(added[lane]))
            old[lane] = min(turn * (int(added[lane]) or 1), most)
        return old.astype(dtype).reshape(pointers.shape)

    def _turn(self, lane: int, address: int, adds: bool) -> int:
        drawn = self._drawn.get((lane, address), 0)
        place, sharers = self._place(int(self._ids[lane]), address)
        if not adds:
            return max(drawn, 1) * sharers  # by now everyone has come
        self._drawn[lane, address] = drawn + 1
        self.rounds = max(self.rounds, drawn + 1)
        return place + drawn * sharers

    def _place(self, program: int, address: int) -> tuple[int, int]:
        if self._places is not None:
            storage = storage_of(address)
            return self._places.get(storage, LATE), self._arrivals.sharers.get(storage, LATE)
        order = self._arrivals.programs.get(address, ())
        at = int(np.searchsorted(order, program))
        known = at < len(order) and order[at] == program
        return (at, len(order)) if known else (LATE, len(order) or LATE)


def find_arrivals(launch: Absent) -> Arrivals:
    """Run the programs of a launch to see what they add to; of a large grid, a sample."""
    total = launch.programs
    if total > CENSUS:
        draw = np.random.Generator(np.random.Philox(total))
        ids = np.sort(draw.choice(total, CENSUS, replace=False))
        found = _asked(launch, ids, Arrivals({}, {}))
        return Arrivals(found, _sharers(found, CENSUS / total))
    known: dict[int, tuple[int, ...]] = {}
    for _ in range(PASSES):
        found = _asked(launch, np.arange(total), Arrivals(known, {}))
        if found == known:
            break
        known = found
    return Arrivals(known, _sharers(known, 1.0))


def ways_to_arrive(arrivals: Arrivals) -> Iterator[tuple[float, dict[int, int]]]:
    """The places by storage that programs of a large grid are counted in, and what share of the programs has them."""
    most = sorted(arrivals.sharers, key=lambda storage: arrivals.sharers[storage])[-CLASSES:]
    middle = {storage: sharers // 2 for storage, sharers in arrivals.sharers.items()}
    for places in product(*(_classes(arrivals.sharers[storage]) for storage in most)):
        share = float(np.prod([share for share, _ in places]))
        yield share, middle | {storage: place for storage, (_, place) in zip(most, places, strict=True)}


def _classes(sharers: int) -> list[tuple[float, int]]:
    if sharers <= FEW:
        return [(1 / sharers, place) for place in range(sharers)]
    return [(1 / sharers, 0), (1 - 2 / sharers, sharers // 2), (1 / sharers, sharers - 1)]


def _sharers(found: Mapping[int, tuple[int, ...]], asked: float) -> dict[int, int]:
    """How many programs share an address, by storage, where a share of the programs were asked.

    Of n programs asked that add to d addresses, with k programs to each: d / n = (1 - (1 - asked)^k) / (k asked).
    """
    seen: dict[int, list[int]] = {}
    for address, programs in found.items():
        seen.setdefault(storage_of(address), []).append(len(programs))
    return {storage: _shared_by(len(counts), sum(counts), asked) for storage, counts in seen.items()}


def _shared_by(addresses: int, programs: int, asked: float) -> int:
    low, high = 1.0, max(programs / asked, 1.0)
    if addresses == 1 or asked == 1.0:
        return max(round(programs / asked / addresses), 1)
    for _ in range(60):
        middle = (low * high) ** 0.5
        if (1 - (1 - asked) ** middle) / (middle * asked) > addresses / programs:
            low = middle
        else:
            high = middle
    return max(round(high), 1)


def _asked(launch: Absent, ids: np.ndarray, known: Arrivals) -> dict[int, tuple[int, ...]]:
    def watch(part: np.ndarray) -> tuple[_Census, Trips]:
        census = _Census(launch.values, Turns(known))
        return census, census.trips

    found: dict[int, set[int]] = {}
    batches = [ids[start : start + interpret.BATCH] for start in range(0, len(ids), interpret.BATCH)]
    for _, census in launch.run(batches, watch):
        for address, programs in census.found.items():
            found.setdefault(address, set()).update(programs)
    return {address: tuple(sorted(programs)) for address, programs in sorted(found.items())}


class _Census(interpret.Observer):
    """Notes which programs of a batch add to which address."""

    def __init__(self, values: Mapping[int, bytes], turns: Turns) -> None:
        self.found: dict[int, set[int]] = {}
        self._values, self._turns = values, turns
        self._ids = np.zeros(0, np.int64)
        self._additions = self._seen = 0

    def trips(self, whole: range) -> Iterator[int]:
        """The first; all of a loop in which something is added."""
        for each in whole:
            before = self._additions
            yield each
            if self._additions == before:
                return

    def begin(self, ids: np.ndarray) -> None:
        self._ids = ids
        self._turns.begin(ids)

    def load(self, pointers: Any, mask: np.ndarray, other: np.ndarray, dtype: np.dtype) -> np.ndarray:
        self._see()
        given = contents(self._values, pointers.data, mask, other, dtype)
        waited = self._turns.waited("load", pointers.data)
        return given + np.array(waited).astype(dtype) if waited else given

    def store(self, pointers: Any, value: np.ndarray, mask: np.ndarray) -> None:
        self._see()

    def atomic(self, pointers: Any, mask: np.ndarray, dtype: np.dtype, perform: Change) -> np.ndarray:
        self._see()
        if perform.name == "ADD" and pointers.data.size == len(pointers.data):
            adds = mask.reshape(-1) & (perform.operand.reshape(-1) != 0)
            self._additions += bool(adds.any())
            for lane in np.flatnonzero(adds):
                self.found.setdefault(int(pointers.data.reshape(-1)[lane]), set()).add(int(self._ids[lane]))
        return self._turns.answer(pointers.data, mask, dtype, perform)

    def dot(self, a: Any, b: Any, shape: tuple[int, ...], precision: Any) -> np.ndarray:
        return empty_product(a, shape)

    def _see(self) -> None:
        self._seen += 1
        if self._seen > MOST:
            raise Endless(f"more than {MOST} accesses a program, although loops run few trips")
