"""Which kernels to go on from: the tree of what was tried, and PUCT over it. Pure: no prompts, no processes, no files.

store = grow(seed_source, trials)       # in the order in which they were made
parents = pick(store, count=8)             # the same tree gives the same parents
"""

from .puct import Puct, pick, scores
from .store import Keep, Kernel, Store, Trial, digest_source, grow

__all__ = ["Keep", "Kernel", "Puct", "Store", "Trial", "digest_source", "grow", "pick", "scores"]
