"""The scaffolds that come with Pawl: file trees below `evals/scaffolds/`, read as data and run only in a sandbox."""

from functools import cache
from importlib.resources import files

from .scaffold import FILE, ScaffoldConfig


def bundled_scaffold(name: str, config: ScaffoldConfig) -> dict[str, bytes]:
    """The tree of a bundled scaffold: its agent, the client it imports, and its typed part.

    Args:
        name: a folder below `evals/scaffolds/`.
        config: what goes into `scaffold.json`.
    """
    return {**_code(name), FILE: config.text().encode()}


@cache
def _code(name: str) -> dict[str, bytes]:
    root = files("pawl.evals") / "scaffolds"
    return {
        "agent.py": (root / name / "agent.py").read_bytes(),
        "client.py": (root / "client.py").read_bytes(),
    }
