"""Telemetry: one trace a campaign, and metrics, by OpenTelemetry; nothing of the SDK is loaded until it is opened.

    from ..safety.telemetry import names, span

    with span("verify", {names.TASK: "trimul"}) as current:
        ...

`docs/telemetry.md` says what is emitted and where it goes.
"""

from . import names
from .opening import open_telemetry
from .spans import Attributes, Place, Span, current_traceparent, here, measure, span, within

__all__ = [
    "Attributes",
    "Place",
    "Span",
    "current_traceparent",
    "here",
    "measure",
    "names",
    "open_telemetry",
    "span",
    "within",
]
