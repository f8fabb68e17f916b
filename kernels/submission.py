"""What a submission finds around it: modules that leaderboard files import, and what a foreign problem adds.

source = completed(problem, source)
modules = importable(problem)
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from .problem import KernelProblem, Variant


@runtime_checkable
class Adapted(Protocol):
    """A problem whose submissions are written for another harness."""

    modules: Mapping[str, str]
    """Text by name of what they import."""

    def complete(self, submission: str) -> str:
        """A submission with what makes `custom_kernel` of it."""
        ...

    def buffers(self, variant: Variant) -> frozenset[str]:
        """Inputs that are room for the output, which may be written and returned."""
        ...


def completed(problem: KernelProblem, source: str) -> str:
    """The source as one that defines `custom_kernel`, without the mark that some editors begin a file with."""
    source = source.removeprefix("\ufeff")
    return problem.complete(source) if isinstance(problem, Adapted) else source


def importable(problem: KernelProblem) -> Mapping[str, str]:
    """Text by name of the modules that a submission may import beside the libraries."""
    from .loaders import leaderboard_modules

    return problem.modules if isinstance(problem, Adapted) else leaderboard_modules()


def output_buffers(problem: KernelProblem, variant: Variant) -> frozenset[str]:
    """Names of the inputs that a submission may write to and return."""
    return problem.buffers(variant) if isinstance(problem, Adapted) else frozenset()
