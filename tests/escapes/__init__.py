"""The escape suite: attacks on the sandbox, each run under every set of layers and, to show that it works, without.

    outcome = await try_probe(PROBES["host_environment"], default_sandbox(Isolation.LANDLOCK))
    assert outcome.verdict is Verdict.HELD, outcome.facts

A probe is one file in `probes/`, in two halves that meet in nothing but data:

| function | where | what it does |
|---|---|---|
| `prepare(arena)` | outside | plants what there is to reach, and returns all that an attacker could know, as JSON |
| `attack(given, attempt)` | inside | tries every way it has; `attempt` notes what each came to |
| `meanwhile(arena)` | outside | looks while the attack holds what it got (`attempt.hold()`); returns facts |
| `verdict(arena, result)` | outside | returns what makes it an escape; by default a canary that came out |

The attack's own word decides nothing: an escape is a canary that came out, a listener that was reached, a process
that is there, a file that changed.
"""

from . import kernels
from .arena import Arena
from .bare import Bare
from .trial import PROBES, SETS, Outcome, Probe, Verdict, try_probe
from .warmed import Warmed, can_be_warm

__all__ = [
    "PROBES",
    "SETS",
    "Arena",
    "Bare",
    "Outcome",
    "Probe",
    "Verdict",
    "Warmed",
    "can_be_warm",
    "kernels",
    "try_probe",
]
