"""Opening telemetry for one run of a campaign, and closing it within a bounded time.

with open_telemetry(home.root, campaign="c1", trace_id=trace_id) as telemetry:
    with within(telemetry.round(1)), span("..."):
        ...
"""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .targets import Target, Targets, captures_content, targets

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from .telemetry import Telemetry

FILE_DELAY_MILLIS = 1000
"""How long spans are held back before they are written to a file; of a killed process, so much is lost."""


@contextmanager
def open_telemetry(
    home: Path, *, campaign: str, trace_id: str, environ: Mapping[str, str] | None = None
) -> Generator["Telemetry | None"]:
    """Open telemetry for one run of a campaign; none where the variables switch it off.

    Nothing that goes wrong with it is raised: a collector that is down, a full disk or a variable that makes no sense
    is told once, as a warning of the logger `pawl.safety.telemetry`.

    Args:
        home: folder of the home; files go to its `telemetry/`.
        campaign: id of the campaign; names the files.
        trace_id: of the campaign, 32 hexadecimal digits.
        environ: the variables; the process's own where none are given.
    """
    environ = os.environ if environ is None else environ
    chosen = targets(environ)
    if chosen.nothing or len(trace_id) != 32 or not int(trace_id, 16):
        yield None
        return
    telemetry = _build(home / "telemetry", campaign, trace_id, chosen, environ)
    try:
        yield telemetry
    finally:
        if telemetry is not None:
            telemetry.close()


def _build(
    folder: Path, campaign: str, trace_id: str, chosen: Targets, environ: Mapping[str, str]
) -> "Telemetry | None":
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from .files import LineFile, MetricFile, SpanFile
    from .telemetry import Telemetry
    from .trouble import Trouble, listen

    trouble = Trouble(chosen.collector if Target.COLLECTOR in (chosen.traces, chosen.metrics) else str(folder))
    listen(trouble)
    if chosen.complaint:
        trouble.tell(chosen.complaint)
    try:
        resource = _resource(environ)
        tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        processor: BatchSpanProcessor | None = None
        match chosen.traces:
            case Target.COLLECTOR:
                from .collectors import CollectorSpans

                processor = BatchSpanProcessor(CollectorSpans(trouble))
            case Target.FILE:
                spans = SpanFile(LineFile(folder, f"{campaign}.traces"), trouble)
                delay = None if environ.get("OTEL_BSP_SCHEDULE_DELAY") else FILE_DELAY_MILLIS
                processor = BatchSpanProcessor(spans, schedule_delay_millis=delay)
            case Target.NOWHERE:
                pass
        if processor is not None:
            tracers.add_span_processor(processor)
        readers: list[PeriodicExportingMetricReader] = []
        match chosen.metrics:
            case Target.COLLECTOR:
                from .collectors import CollectorMetrics

                readers.append(PeriodicExportingMetricReader(CollectorMetrics(trouble)))
            case Target.FILE:
                metrics = MetricFile(LineFile(folder, f"{campaign}.metrics"), trouble)
                readers.append(PeriodicExportingMetricReader(metrics))
            case Target.NOWHERE:
                pass
        meters = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
        return Telemetry(trace_id, tracers, meters, processor, trouble, content=captures_content(environ))
    except (OSError, ValueError) as error:  # a folder that can't be written, a variable that is no number
        trouble.tell(str(error))
        return None


def _resource(environ: Mapping[str, str]) -> "Resource":
    """Who sends: the service's name and version, and an id for this process and run."""
    from opentelemetry.sdk.resources import Resource

    from .names import SCHEMA_URL
    from .telemetry import own_version

    own: dict[str, str] = {"service.version": own_version(), "service.instance.id": os.urandom(8).hex()}
    if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        own["service.name"] = "pawl"
    return Resource.create(own, SCHEMA_URL)
