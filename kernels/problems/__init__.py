"""The problems in the house, by name."""

from ...core import NotFound
from ..problem import KernelProblem
from .attention import Attention
from .cross_entropy import CrossEntropy
from .layer_norm import LayerNorm
from .matmul import Matmul
from .softmax import Softmax
from .trimul import TriMul

PROBLEMS: dict[str, KernelProblem] = {
    problem.name: problem for problem in (TriMul(), Softmax(), LayerNorm(), Matmul(), CrossEntropy(), Attention())
}


def find_problem(name: str) -> KernelProblem:
    """Look a problem up: one in the house, or one that was loaded or that a package registers.

    Raises:
        NotFound: there is none of that name.
    """
    if name in PROBLEMS:
        return PROBLEMS[name]
    from ..loaders import registered_names, registered_problem

    found = registered_problem(name)
    if found is None:
        known = sorted({*PROBLEMS, *registered_names()})
        raise NotFound(f"No kernel problem {name!r}; there are {known}, and folders and files that are loaded.")
    return found
