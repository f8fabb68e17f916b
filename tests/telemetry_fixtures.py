"""Collectors to send telemetry to: one that takes everything apart, and some that are no good."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

INGEST = {
    "use_multipart_endpoint": False,
    "size_limit": 100,
    "size_limit_bytes": 20 << 20,
    "scale_up_nthreads_limit": 4,
    "scale_up_qsize_trigger": 1000,
}
"""What LangSmith says of how it takes runs: as plain JSON, here."""


@dataclass(frozen=True)
class Told:
    """One span, as a collector has it."""

    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    failed: bool
    client: bool
    instance: str
    """Which process and run it is from."""
    schema: str


@dataclass
class Collector:
    """What arrived."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[Told] = field(default_factory=list)
    metrics: dict[str, list[Any]] = field(default_factory=dict)
    """Data points by name, in the order of their arrival."""

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.bodies.append(body)
        self.headers.append(headers)
        if path == "/v1/traces":
            self.spans += traces(ExportTraceServiceRequest.FromString(body))
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        data = getattr(metric, metric.WhichOneof("data"))
                        self.metrics.setdefault(metric.name, []).extend(data.data_points)


def traces(request: ExportTraceServiceRequest) -> list[Told]:
    """The spans of an export."""
    return [
        Told(
            name=span.name,
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            attributes=plain(span.attributes),
            events=[(event.name, plain(event.attributes)) for event in span.events],
            failed=span.status.code == 2,
            client=span.kind == 3,
            instance=plain(resource.resource.attributes).get("service.instance.id", ""),
            schema=scope.schema_url,
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes as a mapping."""

    def value(each: Any) -> Any:
        kind = each.WhichOneof("value")
        return [value(one) for one in each.array_value.values] if kind == "array_value" else getattr(each, kind)

    return {each.key: value(each.value) for each in attributes}


def file_spans(folder: Path) -> list[Told]:
    """The spans of a home's files; every line is one."""
    from google.protobuf.json_format import ParseDict

    found: list[Told] = []
    for path in sorted(folder.glob("*.traces.*.jsonl")):
        for line in path.read_text().splitlines():
            message = json.loads(line)
            [resource] = message["resourceSpans"]
            [span] = resource["scopeSpans"][0]["spans"]
            for name in ("traceId", "spanId", "parentSpanId"):  # protobuf's own JSON has bytes in base64
                if name in span:
                    span[name] = _base64(span[name])
            found += traces(ParseDict(message, ExportTraceServiceRequest()))
    return found


def _base64(text: str) -> str:
    import base64

    return base64.b64encode(bytes.fromhex(text)).decode()


@contextmanager
def collector(*, status: int = 200, delay: float = 0.0, reply: bytes | None = None) -> Iterator[Collector]:
    """A server that speaks OTLP over HTTP.

    Args:
        status: what it answers.
        delay: seconds that it takes for that.
        reply: what it says; what a collector says where none is given.
    """
    found = Collector()
    body = ExportTraceServiceResponse().SerializeToString() if reply is None else reply

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if status == 200 and reply is None:
                found.take(self.path, {name.lower(): value for name, value in self.headers.items()}, data)
            else:
                found.bodies.append(data)
            stop.wait(delay)
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # it did not wait
                pass

        def do_GET(self) -> None:
            answer = json.dumps({"version": "0.11.0", "batch_ingest_config": INGEST}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    stop = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield found
        finally:
            stop.set()
            server.shutdown()


def wait_until(condition: Any, seconds: float = 10.0) -> None:
    """Return once something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
