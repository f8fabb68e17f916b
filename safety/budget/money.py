"""Money: integer nano-dollars inside, decimals and texts outside, so that sums are exact."""

from decimal import ROUND_CEILING, Decimal

NANO = 10**9
"""Nano-dollars of a US dollar; also nanoseconds of a second."""


def nano_dollars(usd: Decimal | str | float) -> int:
    """US dollars as nano-dollars, rounded up: a cost is never too small. A float counts as it is written."""
    return int((Decimal(str(usd)) * NANO).to_integral_value(ROUND_CEILING))


def dollars(nano: int) -> Decimal:
    """Nano-dollars as US dollars, exactly."""
    return Decimal(nano).scaleb(-9)


def shown(nano: int) -> str:
    """Nano-dollars for people: cents from a dollar on, below it as many digits as the amount needs to be seen."""
    value = dollars(nano)
    if abs(value) >= 1 or value == 0:
        return f"${value:,.2f}"
    return f"${value:.4f}" if abs(value) >= Decimal("0.0001") else f"${value:.9f}".rstrip("0")
