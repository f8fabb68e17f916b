"""Schedules: a kernel's design as a choice in each of a few named fields.

A small model can't write Triton, but it can choose; `render` turns its choices into a module.
"""

import math
import random
from collections.abc import Mapping
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict

from ..core import ConfigurationError

Schedule: TypeAlias = dict[str, str]
"""Field name to the option chosen; complete, in the order of the space's fields."""


class ScheduleField(BaseModel):
    """One choice."""

    model_config = ConfigDict(frozen=True)

    name: str
    options: tuple[str, ...]
    about: str
    """What the choice decides, in a line that a model can be shown."""


class ScheduleSpace(BaseModel):
    """Every combination of the fields' options."""

    model_config = ConfigDict(frozen=True)

    fields: tuple[ScheduleField, ...]

    @classmethod
    def of(cls, *table: tuple[str, str, str]) -> "ScheduleSpace":
        """Make a space of rows (name, options parted by spaces, what the choice decides)."""
        return cls(fields=tuple(ScheduleField(name=n, options=tuple(o.split()), about=about) for n, o, about in table))

    @property
    def size(self) -> int:
        """How many schedules there are."""
        return math.prod(len(field.options) for field in self.fields)

    def validate_schedule(self, choices: Mapping[str, object]) -> Schedule:
        """Return the choices as a schedule, in the order of the fields.

        Raises:
            ConfigurationError: a field is missing or unknown, or its option isn't one of the field's.
        """
        names = {field.name for field in self.fields}
        unknown = sorted(set(choices) - names)
        if unknown:
            raise ConfigurationError(f"The schedule has unknown fields {unknown}; expected {sorted(names)}.")
        schedule: Schedule = {}
        for field in self.fields:
            value = choices.get(field.name)
            if value not in field.options:
                raise ConfigurationError(
                    f"The schedule's field {field.name!r} is {value!r}; expected one of {list(field.options)}."
                )
            schedule[field.name] = str(value)
        return schedule

    def sample(self, seed: int) -> Schedule:
        """Draw one schedule, every one equally likely."""
        draw = random.Random(seed)
        return {field.name: draw.choice(field.options) for field in self.fields}
