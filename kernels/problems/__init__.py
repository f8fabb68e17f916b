"""The problems in the house, by name."""

from ...core import NotFound
from ..problem import KernelProblem
from .trimul import TriMul

PROBLEMS: dict[str, KernelProblem] = {"trimul": TriMul()}


def find_problem(name: str) -> KernelProblem:
    """Look a problem up.

    Raises:
        NotFound: there is none of that name.
    """
    try:
        return PROBLEMS[name]
    except KeyError:
        raise NotFound(f"No kernel problem {name!r}; there are {sorted(PROBLEMS)}.") from None
