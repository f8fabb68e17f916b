"""One clear warning a run where telemetry can't be exported, instead of the many that the SDK has for it."""

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_LOG = logging.getLogger(__name__)
_NOISY = ("opentelemetry.exporter", "opentelemetry.sdk")


class Trouble:
    """What keeps telemetry from getting where it should; says so once."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._lock = threading.Lock()
        self.reason: str | None = None
        """The first thing that went wrong, in the words of whoever met it."""

    def tell(self, reason: str) -> None:
        """Warn, unless this run has been warned already."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason[:300]
        _LOG.warning(
            "Telemetry does not get to %s: %s. What can't be sent is dropped, and the campaign goes on. "
            "Check the OTEL_* variables, or unset them to write to the home's telemetry/ folder.",
            self._target,
            self.reason,
        )

    @contextmanager
    def heard(self) -> Generator[None]:
        """Have what the SDK complains of in this block told by this run, however many are open or just closed."""
        token = _heard.set(self)
        try:
            yield
        finally:
            _heard.reset(token)


_heard: ContextVar[Trouble | None] = ContextVar("pawl_telemetry_trouble", default=None)


class _Reroute(logging.Handler):
    """Turns the SDK's complaints into one warning a run; of the run that was opened last, where nobody knows which."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.trouble: Trouble | None = None

    def emit(self, record: logging.LogRecord) -> None:
        trouble = _heard.get() or self.trouble
        if trouble is not None:
            trouble.tell(_brief(record))


def _brief(record: logging.LogRecord) -> str:
    """A record's message; of a failed connection only what the system said, which comes last."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    errors = [each for each in arguments if isinstance(each, Exception)]
    words = str(errors[0]) if errors else record.getMessage()
    return words.rpartition("] ")[2].rpartition(": ")[2].rstrip("\"')") if "Max retries" in words else words


_reroute = _Reroute()


def listen(trouble: Trouble) -> None:
    """Have the SDK's own log messages go through this trouble from now on."""
    _reroute.trouble = trouble
    for name in _NOISY:
        logger = logging.getLogger(name)
        if _reroute not in logger.handlers:
            logger.addHandler(_reroute)
            logger.propagate = False
