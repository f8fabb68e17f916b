"""A penalty for answers that come near the longest one allowed."""

from ..objectives import Overlong


def overlong_penalty(length: int, settings: Overlong) -> float:
    """What an answer's length takes from its reward: between 0 and -1, times the weight.

    ``0`` up to ``longest - margin``, then falling in a line to ``-1`` at ``longest``, and ``-1`` beyond (DAPO, Yu et
    al. 2025, arXiv 2503.14476, equation 13).

    Args:
        length: tokens that the policy wrote.
        settings: longest answer, and how far before it the penalty begins.
    """
    over = length - (settings.longest - settings.margin)
    return -settings.weight * min(1.0, max(0.0, over / settings.margin))
