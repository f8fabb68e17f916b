# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""From raw samples to a median with an interval; only the parent's numbers come in.

summary = summarise([812.0, 809.5, ...])
corrected = without_overhead(summary, summarise(empty_calls))
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
LEAST_SAMPLES = 6
"""With fewer, no two order statistics hold the median with 95 %: 1 - 2 / 2^5 is 0.94."""


class NotATime(ValueError):
    """A sample that is not a positive, finite number; whatever follows from it would be none either."""


@dataclass(frozen=True)
class Summary:
    """A median with its interval, in the unit of the samples."""

    median: float
    low: float
    high: float
    count: int

    @property
    def width(self) -> float:
        """Of the interval."""
        return self.high - self.low


def summarise(samples: Sequence[float]) -> Summary:
    """The median, and the 95 % interval that order statistics give of it, whatever the distribution.

    The interval inverts the sign test (Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2), in SciPy's
    `quantile_test`.

    Raises:
        NotATime: a sample is NaN, infinite, zero or negative.
        ValueError: there are fewer than `LEAST_SAMPLES`.
    """
    for sample in samples:
        if not math.isfinite(sample) or sample <= 0:
            raise NotATime(f"a time of {sample} us")
    if len(samples) < LEAST_SAMPLES:
        raise ValueError(f"{len(samples)} samples, expected at least {LEAST_SAMPLES}")
    import numpy as np
    from scipy.stats import quantile_test

    found = quantile_test(list(samples), q=0, p=0.5).confidence_interval(CONFIDENCE)
    return Summary(float(np.median(samples)), float(found.low), float(found.high), len(samples))


def without_overhead(whole: Summary, overhead: Summary) -> Summary:
    """Take the median of empty calls off, and add the doubt about it to the interval.

    Raises:
        NotATime: nothing is left: the call took no longer than an empty one.
    """
    median = whole.median - overhead.median
    if median <= 0:
        raise NotATime(f"{whole.median:.1f} us, no longer than the {overhead.median:.1f} us of an empty call")
    return Summary(median, max(0.0, whole.low - overhead.high), whole.high - overhead.low, whole.count)


def geometric_mean(times: Sequence[float]) -> float:
    """Of positive, finite times.

    Raises:
        NotATime: one isn't, which would make the mean 0 or no number.
    """
    for time in times:
        if not math.isfinite(time) or time <= 0:
            raise NotATime(f"a time of {time} us")
    return math.exp(math.fsum(math.log(time) for time in times) / len(times))
