"""Spans, as the rest of Pawl makes them: one line, next to free where telemetry isn't open.

    with span("verify", {names.TASK: "trimul"}) as current:
        ...
        current.set(names.ACCEPTED, True)

What telemetry is open, and which span is the parent, follows the task: both are in one context variable. A server
that answers for somebody else takes their place along: `here()` there, `span(..., within=place)` in the server.
An exception that passes a span marks it as failed by its type; its words stay out, since they may quote anything.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Protocol, TypeAlias

AttributeValue: TypeAlias = str | bool | int | float | Sequence[str]
Attributes: TypeAlias = Mapping[str, AttributeValue]


class Span(Protocol):
    """One timed piece of work, while it goes on."""

    def set(self, name: str, value: AttributeValue | None) -> None:
        """Give it an attribute; none is left out."""
        ...

    def event(self, name: str, attributes: Attributes) -> None:
        """Note that something happened now."""
        ...

    def fail(self, kind: str) -> None:
        """Mark it as failed, with a kind of error from a small set."""
        ...


class Place(Protocol):
    """A point in a trace below which spans can be opened."""

    def start(self, name: str, attributes: Attributes | None, client: bool) -> tuple["Place", "Started"]:
        """Start a span below this place, and give the place below that span."""
        ...

    def measure(self, name: str, value: float, attributes: Attributes | None) -> None:
        """Count, record or set a metric."""
        ...

    def known(self, *known: str | int) -> "Place":
        """Another place of the same trace: below the span whose id follows from `known`."""
        ...

    def ended(
        self,
        name: str,
        known: tuple[str | int, ...],
        start: float,
        end: float,
        attributes: Attributes,
        *,
        parent: tuple[str | int, ...],
        failed: str = "",
    ) -> None:
        """Hand on a span that outlived processes; see `Telemetry.ended`."""
        ...

    @property
    def traceparent(self) -> str:
        """The place in the form of W3C Trace Context."""
        ...

    @property
    def content(self) -> bool:
        """Whether messages of models and arguments of tools may be told."""
        ...


class Started(Span, Protocol):
    """A span that can be ended."""

    def end(self) -> None:
        """Stop its clock and hand it on."""
        ...


_place: ContextVar[Place | None] = ContextVar("pawl_telemetry_place", default=None)


def here() -> Place | None:
    """Where this task is in a trace; none where telemetry isn't open."""
    return _place.get()


def current_traceparent() -> str | None:
    """The current place as W3C Trace Context, for a program that goes on with the trace elsewhere."""
    place = _place.get()
    return place.traceparent if place is not None else None


def measure(name: str, value: float, attributes: Attributes | None = None, *, within: Place | None = None) -> None:
    """Count, record or set a metric of `instruments`, where telemetry is open."""
    place = within or _place.get()
    if place is not None:
        place.measure(name, value, attributes)


@contextmanager
def within(place: Place | None) -> Generator[None]:
    """Hang what the block opens below a place."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    client: bool = False,
    within: Place | None = None,
    calm: tuple[type[BaseException], ...] = (),
) -> "SpanContext":
    """A context manager that times its block, and is the parent of what the block opens.

    Args:
        name: what is done, from a small set of names.
        attributes: what is known at the start.
        client: whether the block waits for another service.
        within: the place above; the task's own where none is given.
        calm: exceptions that are no failures.
    """
    return SpanContext(name, attributes, client, within or _place.get(), calm)


class SpanContext:
    """What `span` returns."""

    __slots__ = ("_attributes", "_calm", "_client", "_name", "_place", "_started", "_token")

    def __init__(
        self,
        name: str,
        attributes: Attributes | None,
        client: bool,
        place: Place | None,
        calm: tuple[type[BaseException], ...],
    ) -> None:
        self._name, self._attributes, self._client = name, attributes, client
        self._place, self._calm = place, calm
        self._started: Started | None = None
        self._token: Token[Place | None] | None = None

    def __enter__(self) -> Span:
        if self._place is None:
            return NOTHING
        below, self._started = self._place.start(self._name, self._attributes, self._client)
        self._token = _place.set(below)
        return self._started

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started is None or self._token is None:
            return
        _place.reset(self._token)
        if kind is not None and not issubclass(kind, self._calm):
            self._started.fail(_innermost(error, kind).__name__)
        self._started.end()


def _innermost(error: BaseException | None, kind: type[BaseException]) -> type[BaseException]:
    """The type of the first real error in a group of them."""
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return _innermost(inner[0], type(inner[0])) if inner else kind


class _Nothing:
    """A span where telemetry isn't open."""

    __slots__ = ()

    def set(self, name: str, value: AttributeValue | None) -> None:
        """Do nothing."""

    def event(self, name: str, attributes: Attributes) -> None:
        """Do nothing."""

    def fail(self, kind: str) -> None:
        """Do nothing."""


NOTHING = _Nothing()
