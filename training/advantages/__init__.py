"""From rewards, and values, to advantages: pure functions on lists of floats.

    group_relative([0.0, 1.0, 1.0])                          # one group: GRPO and its kin
    entropic([0.1, 0.2, 0.9, 0.3])                           # one group: find one best
    reinforce([0.0, 1.0, 1.0])                               # all rollouts of a job
    gae([0.0, 0.0, 1.0], [0.4, 0.5, 0.8], gamma=1.0, lam=0.95)   # one rollout, decision by decision
    advantages_of({"item": [0.0, 1.0]}, "group_relative")    # every group under one objective

More reward is better; turn the sign of a metric that is minimised before. Every function returns one advantage for
each reward, in the same order, and refuses rewards that are not finite.
"""

from .entropic import entropic, solve_beta, tilt_kl
from .every import advantages_of
from .gae import Estimate, gae, whiten
from .group import group_relative, leave_one_out
from .overlong import overlong_penalty
from .reinforce import reinforce

__all__ = [
    "Estimate",
    "advantages_of",
    "entropic",
    "gae",
    "group_relative",
    "leave_one_out",
    "overlong_penalty",
    "reinforce",
    "solve_beta",
    "tilt_kl",
    "whiten",
]
