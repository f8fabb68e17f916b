"""The rules: what a sandbox guarantees, which layers give each guarantee, and what each use requires.

    missing(Use.KERNEL, sandbox.layers)     # guarantees that are required and not given; empty where the rule is kept

Every use of code that isn't Pawl's own requires the same eight; foreign code, whose makers Pawl doesn't know, moreover
may never be root on the host.
"""

from collections.abc import Mapping
from enum import StrEnum

from .protocol import Layer, Use


class Guarantee(StrEnum):
    """What a program can rely on not getting."""

    NO_ENVIRONMENT = "no environment"
    """Neither as its own nor through /proc of a process of the host."""
    NO_DESCRIPTORS = "no descriptors"
    NO_NETWORK = "no network"
    """No socket leads anywhere but to the one that is mounted."""
    OWN_FILES = "own files only"
    """It reads and writes what it was given, and nothing else of the host's files, processes and settings."""
    BOUNDED_PROCESSES = "bounded processes"
    BOUNDED_MEMORY = "bounded memory"
    BOUNDED_TIME = "bounded time"
    """What it started ends with it, and all of it at the wall clock's limit."""
    BOUNDED_OUTPUT = "bounded output"
    """What it prints, each file that it writes, and what its folder holds."""
    NOT_ROOT = "not root"
    """On the host it is a user without rights over what belongs to root."""


def _any_of(*alternatives: set[Layer]) -> tuple[frozenset[Layer], ...]:
    return tuple(frozenset(each) for each in alternatives)


GIVEN_BY: Mapping[Guarantee, tuple[frozenset[Layer], ...]] = {
    Guarantee.NO_ENVIRONMENT: _any_of(
        {Layer.EMPTY_ENVIRONMENT, Layer.NAMESPACES}, {Layer.EMPTY_ENVIRONMENT, Layer.LANDLOCK, Layer.SECCOMP}
    ),
    Guarantee.NO_DESCRIPTORS: _any_of({Layer.CLOSED_DESCRIPTORS}),
    Guarantee.NO_NETWORK: _any_of({Layer.NAMESPACES, Layer.SECCOMP}, {Layer.LANDLOCK, Layer.SECCOMP}),
    Guarantee.OWN_FILES: _any_of({Layer.NAMESPACES, Layer.SECCOMP}, {Layer.LANDLOCK, Layer.SECCOMP}),
    Guarantee.BOUNDED_PROCESSES: _any_of(
        {Layer.PIDS_CGROUP}, {Layer.RLIMITS, Layer.DEDICATED_USER}, {Layer.RLIMITS, Layer.ORDINARY_USER}
    ),
    Guarantee.BOUNDED_MEMORY: _any_of({Layer.MEMORY_CGROUP}, {Layer.RLIMITS, Layer.WATCH}),
    Guarantee.BOUNDED_TIME: _any_of(
        {Layer.PROCESS_GROUP, Layer.WATCH, Layer.NAMESPACES}, {Layer.PROCESS_GROUP, Layer.WATCH, Layer.LANDLOCK}
    ),
    Guarantee.BOUNDED_OUTPUT: _any_of({Layer.RLIMITS, Layer.WATCH}),
    Guarantee.NOT_ROOT: _any_of({Layer.DEDICATED_USER}, {Layer.ORDINARY_USER}),
}
"""For each guarantee the sets of layers of which any one gives it."""

_ALWAYS = frozenset(Guarantee) - {Guarantee.NOT_ROOT}

REQUIRED: Mapping[Use, frozenset[Guarantee]] = {
    Use.SCAFFOLD: _ALWAYS,
    Use.KERNEL: _ALWAYS,
    Use.TRAINING: _ALWAYS,
    Use.FOREIGN_AGENT: frozenset(Guarantee),
    Use.FOREIGN_SCORER: frozenset(Guarantee),
    Use.TRUSTED: frozenset(),
}

_ANOTHER_USER = (
    "run Pawl as a user other than root",
    "keep its home where other users may pass (chmod o+x on the folders above it)",
)
ADVICE: Mapping[Guarantee, tuple[str, ...]] = {
    Guarantee.BOUNDED_PROCESSES: (*_ANOTHER_USER, "give it a pids cgroup that it may write to"),
    Guarantee.NOT_ROOT: _ANOTHER_USER,
}
"""Ways to get a guarantee, each enough, where more helps than another set of layers."""

GET_A_SET = "install bubblewrap (apt install bubblewrap), or run on Linux 6.12 or later with Landlock and seccomp"


def guarantees(layers: frozenset[Layer]) -> frozenset[Guarantee]:
    """What these layers give together."""
    return frozenset(what for what, sets in GIVEN_BY.items() if any(each <= layers for each in sets))


def missing(use: Use, layers: frozenset[Layer]) -> list[Guarantee]:
    """What a use requires and these layers don't give, in the order of the definition."""
    lacking = REQUIRED[use] - guarantees(layers)
    return [what for what in Guarantee if what in lacking]


def advice(lacking: list[Guarantee]) -> str:
    """What to do about guarantees that are missing."""
    first = [what for what in lacking if what is not Guarantee.BOUNDED_PROCESSES or Guarantee.NOT_ROOT not in lacking]
    words = ", or ".join(dict.fromkeys(way for what in first for way in ADVICE.get(what, (GET_A_SET,))))
    return words[:1].upper() + words[1:]
