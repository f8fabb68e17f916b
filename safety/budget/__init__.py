"""Budgets: what a campaign may spend, and the meter of what it has spent."""

from .meter import Budget, Meter

__all__ = ["Budget", "Meter"]
