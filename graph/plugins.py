"""Nodes that installed packages register under the entry-point group `pawl.nodes`.

An entry point names a `NodeSpec`, or a function without arguments that returns one. A package that fails to load
warns and names itself; the campaign runs without its node.
"""

import warnings
from importlib.metadata import entry_points

from ..nodes.spec import NodeSpec

GROUP = "pawl.nodes"


def plugin_nodes() -> list[NodeSpec]:
    """The nodes of installed packages, in the order of their names."""
    specs: list[NodeSpec] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        package = entry.dist.name if entry.dist is not None else "an unknown package"
        try:
            loaded = entry.load()
            spec = loaded if isinstance(loaded, NodeSpec) else loaded()
        except Exception as error:
            warnings.warn(
                f"The node {entry.name!r} of {package} can't be loaded and is left out: {error!r}. "
                "Update or uninstall that package.",
                RuntimeWarning,
                stacklevel=2,
            )
            continue
        if not isinstance(spec, NodeSpec):
            warnings.warn(
                f"The entry point {entry.name!r} of {package} gives a {type(spec).__name__}, not a NodeSpec, "
                "and is left out.",
                RuntimeWarning,
                stacklevel=2,
            )
            continue
        specs.append(spec)
    return specs
