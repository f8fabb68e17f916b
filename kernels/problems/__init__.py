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
    """Look a problem up.

    Raises:
        NotFound: there is none of that name.
    """
    try:
        return PROBLEMS[name]
    except KeyError:
        raise NotFound(f"No kernel problem {name!r}; there are {sorted(PROBLEMS)}.") from None
