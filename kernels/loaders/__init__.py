"""Problems that others wrote, as they are: GPU MODE's folders, KernelBench's files, and what packages register.

problem = load_problem(Path("problems/bioml/trimul"))      # or a KernelBench file
variant = problem.benchmark()[0]                            # its reference runs in the sandbox, in fp64
source = problem.complete(Path("submission.py").read_text())
"""

from pathlib import Path

from ...core import ConfigurationError
from ...safety.sandbox import Sandbox
from ..problem import KernelProblem
from .gpu_mode import TASK, leaderboard_modules, read_folder
from .kernel_bench import read_file
from .problem import ForeignProblem
from .process import ForeignProcess
from .registered import GROUP, registered_names, registered_problem, remember
from .source import Format

__all__ = [
    "GROUP",
    "ForeignProblem",
    "Format",
    "leaderboard_modules",
    "load_problem",
    "registered_names",
    "registered_problem",
]


def load_problem(path: Path, sandbox: Sandbox | None = None) -> KernelProblem:
    """Load a GPU MODE folder, its `task.yml`, or a KernelBench file, and see that its code runs in the sandbox.

    The problem's name holds a digest of its files, and `find_problem` knows it from then on.

    Raises:
        ConfigurationError: it is neither, or damaged; the message names the file and what was expected.
        SandboxUnavailable: no sandbox here may run such code.
    """
    if path.is_dir():
        source = read_folder(path)
    elif path.name == TASK:
        source = read_folder(path.parent)
    elif path.suffix == ".py":
        source = read_file(path)
    else:
        found = "no such file or folder" if not path.exists() else "neither"
        raise ConfigurationError(
            f"{path}: {found}; expected a folder with {TASK}, or a Python file with Model, get_inputs and "
            "get_init_inputs."
        )
    problem = ForeignProblem(source, ForeignProcess(sandbox) if sandbox is not None else None)
    problem.check()
    return remember(problem)
