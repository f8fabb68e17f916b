# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
"""The statistics of paired effects: intervals, the sign-flip test, and how alpha is spent.

    low, high = paired_interval(effects, seed=7)
    p = sign_flip_pvalue(effects, seed=7, resamples=20_000)

The unit is always the item: repeats of one item are averaged before they come here, since resampling repeats as if
they were items makes a null candidate pass far too often.
"""

import math
from collections.abc import Sequence

BOOTSTRAP_RESAMPLES = 5_000


def alpha_of_race(alpha: float, k: int) -> float:
    """The share of a campaign's alpha that its k-th sealed race may spend: ``alpha * 6 / (pi^2 k^2)``.

    The shares sum to alpha over all k (the Basel series), so by the union bound a whole campaign of candidates that
    are exchangeable with live promotes one with probability at most alpha, however many it proposes.
    """
    return alpha * 6.0 / (math.pi**2 * k * k)


def paired_interval(effects: Sequence[float], seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean effect, resampling items.

    Args:
        effects: one number an item, in the metric's unit, more is better.
        seed: of the resampling.
        level: two-sided coverage.

    Returns:
        Low and high end; minus and plus infinity below two items, where nothing is known of the spread.
    """
    if len(effects) < 2:
        return -math.inf, math.inf
    if min(effects) == max(effects):
        return float(effects[0]), float(effects[0])
    import numpy as np
    from scipy import stats

    found = stats.bootstrap(
        (np.asarray(effects, dtype=float),),
        np.mean,
        n_resamples=BOOTSTRAP_RESAMPLES,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def sign_flip_pvalue(effects: Sequence[float], seed: int, resamples: int) -> float:
    """One-sided p-value of "the mean effect is above zero", by flipping the signs of paired effects.

    Under the null hypothesis that candidate and live are exchangeable on every item, each sign is a fair coin; the
    test says nothing of effects that are lopsided about a mean of zero. Exact
    where all ``2^n`` flips fit into `resamples`, else sampled, with the observed order counted in, so that the level
    holds either way (Phipson and Smyth 2010).
    """
    if not effects or max(effects) <= 0.0:
        return 1.0
    import numpy as np
    from scipy import stats

    found = stats.permutation_test(
        (np.asarray(effects, dtype=float),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def mean_bounds(effects: Sequence[float], confidence: float) -> tuple[float, float]:
    """One-sided lower and one-sided upper confidence bound of the mean, by Student's t.

    Each bound alone has the stated confidence. Below two items they are infinite.
    """
    n = len(effects)
    if n < 2:
        return -math.inf, math.inf
    from scipy import stats

    mean = math.fsum(effects) / n
    spread = math.sqrt(math.fsum((effect - mean) ** 2 for effect in effects) / (n - 1))
    reach = float(stats.t.ppf(confidence, n - 1)) * spread / math.sqrt(n)
    return mean - reach, mean + reach


def mean(values: Sequence[float]) -> float:
    """The mean, exactly rounded, so that the order of the items doesn't show; zero of nothing."""
    return math.fsum(values) / len(values) if values else 0.0
