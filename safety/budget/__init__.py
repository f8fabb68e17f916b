"""Budgets: what may be spent, what it costs, and the meter of what was spent.

Budget(usd=5, round=Limits(usd=1), day=Limits(tokens=2_000_000))     # what a user says
prices_of(settings, model)                                           # money for usage
Meter(db, prices).add(campaign, key, node, round, usage)             # every event, once
"""

from .accounts import BudgetWarning, Charge, Warnings
from .calls import Hold, Spending, current_spending, paying
from .clock import forget_day
from .leases import LeaseKind, Leases
from .limits import Budget, Dimension, LimitReached, Limits, Scope
from .meter import EventKind, Meter, UsageEvent
from .money import dollars, nano_dollars, shown
from .prepaid import Prepaid
from .prices import Prices, hardware_prices, prices_of

__all__ = [
    "Budget",
    "BudgetWarning",
    "Charge",
    "Dimension",
    "EventKind",
    "Hold",
    "LeaseKind",
    "Leases",
    "LimitReached",
    "Limits",
    "Meter",
    "Prepaid",
    "Prices",
    "Scope",
    "Spending",
    "UsageEvent",
    "Warnings",
    "current_spending",
    "dollars",
    "forget_day",
    "hardware_prices",
    "nano_dollars",
    "paying",
    "prices_of",
    "shown",
]
