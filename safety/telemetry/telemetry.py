"""Telemetry of one run of a campaign, over OpenTelemetry's SDK; `open_telemetry` makes it.

Span ids of the campaign, its rounds and its jobs follow from the trace id, so that every process that works on the
campaign hangs its spans below the same ones, and a process that was killed takes none of them along.
"""

import hashlib
import math
import threading
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TypeAlias

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from . import names
from .instruments import Instrument, instruments
from .spans import Attributes, AttributeValue, Place, Started
from .trouble import Trouble

CLOSE_SECONDS = 3.0
"""How long the end of a run waits for what is still to be sent."""
TEXT = 65536
"""Characters of an attribute that are kept."""

Known: TypeAlias = tuple[str | int, ...]
"""What a span's id follows from: `("round", 3)`, `("job", id)`, or anything else that repeats."""
ROOT: Known = ("campaign",)


class Telemetry:
    """One trace and the metrics of one process that works on it.

    Args:
        trace_id: of the campaign, 32 hexadecimal digits.
        tracers: makes the spans.
        meters: holds the metrics.
        processor: takes the spans that have ended; none where spans go nowhere.
        trouble: is told what goes wrong.
        content: whether messages of models and arguments of tools may go into spans.
    """

    def __init__(
        self,
        trace_id: str,
        tracers: TracerProvider,
        meters: MeterProvider,
        processor: BatchSpanProcessor | None,
        trouble: Trouble,
        *,
        content: bool = False,
    ) -> None:
        self.trace_id = trace_id
        self.content = content
        self._tracers, self._meters, self._processor, self._trouble = tracers, meters, processor, trouble
        self._scope = InstrumentationScope(names.SCOPE, own_version(), names.SCHEMA_URL)
        self.tracer = tracers.get_tracer(names.SCOPE, own_version(), names.SCHEMA_URL)
        self._instruments: Mapping[str, Instrument] = instruments(
            meters.get_meter(names.SCOPE, own_version(), names.SCHEMA_URL)
        )
        sampled = tracers.sampler.should_sample(None, int(trace_id, 16), "campaign").decision.is_sampled()
        self._flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)

    def below(self, *known: str | int) -> Place:
        """The place below a span whose id follows from `known`."""
        context = SpanContext(
            int(self.trace_id, 16), span_id(self.trace_id, known), is_remote=True, trace_flags=self._flags
        )
        return _Below(self, set_span_in_context(NonRecordingSpan(context), Context()))

    @property
    def root(self) -> Place:
        """The place below the campaign's own span."""
        return self.below(*ROOT)

    def round(self, number: int) -> Place:
        """The place below a round's span; before the first round, below the campaign's."""
        return self.below("round", number) if number > 0 else self.root

    def ended(
        self,
        name: str,
        known: Known,
        start: float,
        end: float,
        attributes: Attributes,
        *,
        parent: Known | None = ROOT,
        failed: str = "",
    ) -> None:
        """Hand on a span that may outlive processes, once it is over; its children may be long gone.

        Args:
            name: what it timed.
            known: what its id follows from.
            start: seconds since the epoch.
            end: seconds since the epoch.
            attributes: what is known of it.
            parent: what its parent's id follows from; none for the campaign itself.
            failed: kind of error, where it failed.
        """
        if self._processor is None:
            return
        trace = int(self.trace_id, 16)

        def context(known: Known, remote: bool) -> SpanContext:
            return SpanContext(trace, span_id(self.trace_id, known), is_remote=remote, trace_flags=self._flags)

        self._processor.on_end(
            ReadableSpan(
                name,
                context(known, False),
                context(parent, True) if parent is not None else None,
                self._tracers.resource,
                {**cleaned(attributes), **({names.ERROR: failed} if failed else {})},
                status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
                start_time=int(start * 1e9),
                end_time=int(max(start, end) * 1e9),
                instrumentation_scope=self._scope,
            )
        )

    def measure(self, name: str, value: float, attributes: Attributes | None = None) -> None:
        """Count, record or set a metric of `instruments`."""
        self._instruments[name](value, cleaned(attributes) if attributes else None)

    def close(self) -> None:
        """Send what is left, for `CLOSE_SECONDS` at the most; the rest is dropped."""

        def end_spans() -> None:
            self._tracers.shutdown()

        def end_metrics() -> None:
            self._meters.shutdown(timeout_millis=CLOSE_SECONDS * 1000)

        deadline = time.monotonic() + CLOSE_SECONDS
        threads = [threading.Thread(target=each, daemon=True) for each in (end_spans, end_metrics)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            self._trouble.tell(f"what was left at the end was not taken within {CLOSE_SECONDS:g} s")


class _Below:
    """A place in a trace of OpenTelemetry."""

    __slots__ = ("_context", "_telemetry")

    def __init__(self, telemetry: Telemetry, context: Context) -> None:
        self._telemetry = telemetry
        self._context = context

    def start(self, name: str, attributes: Attributes | None, client: bool) -> tuple[Place, Started]:
        """See `Place.start`."""
        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        given = cleaned(attributes) if attributes else None
        span = self._telemetry.tracer.start_span(name, self._context, kind, given)
        return _Below(self._telemetry, set_span_in_context(span, self._context)), _Started(span)

    def measure(self, name: str, value: float, attributes: Attributes | None) -> None:
        """See `Place.measure`."""
        self._telemetry.measure(name, value, attributes)

    def ended(
        self,
        name: str,
        known: Known,
        start: float,
        end: float,
        attributes: Attributes,
        *,
        parent: Known,
        failed: str = "",
    ) -> None:
        """See `Place.ended`."""
        self._telemetry.ended(name, known, start, end, attributes, parent=parent, failed=failed)

    def known(self, *known: str | int) -> Place:
        """See `Place.known`."""
        return self._telemetry.below(*known)

    @property
    def traceparent(self) -> str:
        """See `Place.traceparent`."""
        found = get_current_span(self._context).get_span_context()
        return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags & 1:02x}"

    @property
    def content(self) -> bool:
        """See `Place.content`."""
        return self._telemetry.content


class _Started:
    """A span of OpenTelemetry under way."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def set(self, name: str, value: AttributeValue | None) -> None:
        """See `Span.set`."""
        if value is not None:
            self._span.set_attribute(name, clean(value))

    def event(self, name: str, attributes: Attributes) -> None:
        """See `Span.event`."""
        self._span.add_event(name, cleaned(attributes))

    def fail(self, kind: str) -> None:
        """See `Span.fail`."""
        self._span.set_status(StatusCode.ERROR)
        self._span.set_attribute(names.ERROR, kind[:100])

    def end(self) -> None:
        """See `Started.end`."""
        self._span.end()


def span_id(trace_id: str, known: Known) -> int:
    """The id of a span that every process must find again."""
    digest = hashlib.sha256("/".join([trace_id, *map(str, known)]).encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1


def clean(value: AttributeValue) -> AttributeValue:
    """A value that every encoder takes: finite numbers, 64-bit integers, and text that is UTF-8."""
    if isinstance(value, str):
        return (value if value.isascii() else value.encode(errors="replace").decode())[:TEXT]
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return [str(clean(each)) for each in value]


def cleaned(attributes: Attributes) -> dict[str, AttributeValue]:
    """`clean` for every value."""
    return {name: clean(value) for name, value in attributes.items()}


def own_version() -> str:
    """The version of this package; empty where it isn't installed."""
    try:
        return version("pawl-agents")
    except PackageNotFoundError:
        return ""
