"""The metrics: which instrument each name has, with the buckets that the conventions recommend."""

from collections.abc import Callable, Mapping

from opentelemetry.metrics import Meter

from . import names
from .spans import Attributes

Instrument = Callable[[float, Attributes | None], None]


def instruments(meter: Meter) -> Mapping[str, Instrument]:
    """Every metric, by name, as the function that takes a value and its attributes."""
    return {
        names.TOKEN_USAGE: meter.create_histogram(
            names.TOKEN_USAGE,
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=names.TOKEN_BOUNDARIES,
        ).record,
        names.OPERATION_DURATION: meter.create_histogram(
            names.OPERATION_DURATION,
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=names.DURATION_BOUNDARIES,
        ).record,
        names.COST: meter.create_counter(
            names.COST, unit="{USD}", description="Money spent, as the meter counted it."
        ).add,
        names.ROUNDS: meter.create_counter(names.ROUNDS, unit="{round}", description="Rounds that ended.").add,
        names.RACES: meter.create_counter(names.RACES, unit="{race}", description="Races that ended.").add,
        names.BUDGET_USED: meter.create_gauge(
            names.BUDGET_USED, unit="1", description="How much of a limit is used; 1 is all of it."
        ).set,
    }
