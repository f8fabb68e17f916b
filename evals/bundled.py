"""The scaffolds that come with Pawl: file trees below `evals/scaffolds/`, read as data and run only in a sandbox."""

from functools import cache
from importlib.resources import files

from .scaffold import FILE, ScaffoldConfig


def bundled_scaffold(name: str, config: ScaffoldConfig) -> dict[str, bytes]:
    """The tree of a bundled scaffold: its agent's files, the client they import, and its typed part.

    Args:
        name: a folder below `evals/scaffolds/`.
        config: what goes into `scaffold.json`.
    """
    return {**_code(name), FILE: config.text().encode()}


@cache
def _code(name: str) -> dict[str, bytes]:
    root = files("pawl.evals") / "scaffolds"
    own = {each.name: each.read_bytes() for each in (root / name).iterdir() if each.is_file()}
    return {**own, "client.py": (root / "client.py").read_bytes()}
