"""Random seeds that depend on where they are used, not on when.

A resumed campaign draws what an unbroken one draws, because every seed derives from
(campaign seed, round, node, item, attempt) and never from a shared generator's state.
"""

from pydantic import JsonValue

from .digest import digest_json


def derive_seed(seed: int, *where: JsonValue) -> int:
    """A 63-bit seed for one place of use.

    Args:
        seed: the campaign's seed.
        where: what tells this use from every other, for example ``"task_agent", round, item_id, attempt``.
    """
    return int(digest_json([seed, *where])[:16], 16) >> 1
