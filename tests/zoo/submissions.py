"""Reads the zoo's files: their headers by syntax, and the whole text that is submitted."""

import ast
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from pawl.kernels import Precision, Report, Variant, find_problem, trimul_variant

HERE = Path(__file__).parent
CHEATS, HONEST = HERE / "cheats", HERE / "honest"


class Outcome(StrEnum):
    """What has to come of a cheat."""

    REJECTED = "rejected"
    NO_GAIN = "no-gain"


@dataclass(frozen=True)
class Exploit:
    """One cheat."""

    name: str
    id: str
    problem: str
    naive: str
    outcome: Outcome
    proof: str = "wrong"
    after: str = "seed"
    needs: str = "cpu"
    expected: tuple[str, ...] = ()
    parameters: tuple[tuple[str, Any], ...] = ()
    precision: Precision | None = None

    @property
    def source(self) -> str:
        """The submission: what stands before the file, and the file."""
        return _before(self.after, self.problem) + (CHEATS / f"{self.name}.py").read_text()

    @property
    def variant(self) -> Variant:
        """A small variant that it is verified on."""
        return small_variant(self.problem, dict(self.parameters), self.precision)

    def failed_to_gain(self, report: Report, honest_us: float | None) -> bool:
        """Whether it came to nothing: rejected, or where that is right, no faster than the honest kernel."""
        if self.outcome is Outcome.REJECTED:
            return not report.accepted and (not self.expected or report.failure_class in self.expected)
        return not report.accepted or (
            honest_us is not None and report.time_us is not None and report.time_us >= 0.98 * honest_us
        )


def small_variant(
    problem: str, parameters: dict[str, Any] | None = None, precision: Precision | None = None
) -> Variant:
    """TriMul of 64, or the problem's first public test, with other parameters or another contract."""
    variant = trimul_variant(64) if problem == "trimul" else find_problem(problem).tests()[0]
    changed = {"parameters": variant.parameters | (parameters or {}), "precision": precision or variant.precision}
    return variant.model_copy(update=changed)


def honest_source(problem: str) -> str:
    """What the cheats on a problem are held against: its seed."""
    return _before("seed", problem)


@cache
def exploits() -> tuple[Exploit, ...]:
    """Every cheat, in the order of their names."""
    return tuple(_exploit(path) for path in sorted(CHEATS.glob("[xp]*.py")))


def honest_sources() -> dict[str, tuple[dict[str, Any], str]]:
    """Header and text of each honest kernel, by name."""
    return {path.stem: (header(path, "HONEST"), path.read_text()) for path in sorted(HONEST.glob("[!_]*.py"))}


def header(path: Path, name: str) -> dict[str, Any]:
    """The dictionary that a file assigns to `name`.

    Raises:
        LookupError: it assigns none.
    """
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise LookupError(f"{path.name} has no header {name} = {{...}}")


def _exploit(path: Path) -> Exploit:
    said = header(path, "EXPLOIT")
    known = {
        "outcome": Outcome(said.pop("outcome")),
        "expected": tuple(said.pop("expected", ())),
        "parameters": tuple(said.pop("parameters", {}).items()),
        "precision": Precision(said.pop("precision")) if "precision" in said else None,
    }
    return Exploit(name=path.stem, **known, **said)


def _before(after: str, problem: str) -> str:
    if after == "seed":
        return find_problem(problem).seed_source() + "\n\n"
    return (CHEATS / f"_{after}.py").read_text() + "\n\n" if after else ""
