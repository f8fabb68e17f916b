"""Spans and metrics as lines of OTLP-JSON, the form that the OpenTelemetry Collector's file receiver reads.

One line holds one span, or one export of the metrics. Ids are hexadecimal and 64-bit integers are strings, as the OTLP
specification wants them in JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import format_span_id, format_trace_id

_HAS_REMOTE, _REMOTE = 0x100, 0x200


def span_line(span: ReadableSpan, resource: Mapping[str, Any]) -> bytes:
    """One span as a line; `resource` is `resource_of` its resource."""
    scope = span.instrumentation_scope
    line = {
        "resourceSpans": [
            {
                "resource": resource,
                "scopeSpans": [
                    {
                        "scope": {"name": scope.name, "version": scope.version or ""} if scope else {},
                        "spans": [_span(span)],
                        "schemaUrl": (scope.schema_url or "") if scope else "",
                    }
                ],
                "schemaUrl": span.resource.schema_url,
            }
        ]
    }
    return json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def metrics_line(data: MetricsData) -> bytes:
    """One export of the metrics as a line."""
    message = MessageToDict(encode_metrics(data), use_integers_for_enums=True)
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def resource_of(resource: Resource) -> dict[str, Any]:
    """A resource as OTLP-JSON."""
    return {"attributes": _attributes(resource.attributes)}


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    assert context is not None
    found: dict[str, Any] = {
        "traceId": format_trace_id(context.trace_id),
        "spanId": format_span_id(context.span_id),
        "name": span.name,
        "kind": span.kind.value + 1,
        "startTimeUnixNano": str(span.start_time or 0),
        "endTimeUnixNano": str(span.end_time or 0),
        "attributes": _attributes(span.attributes or {}),
        "flags": int(context.trace_flags) | _HAS_REMOTE,
    }
    if span.parent is not None:
        found["parentSpanId"] = format_span_id(span.parent.span_id)
        found["flags"] |= _REMOTE if span.parent.is_remote else 0
    if span.events:
        found["events"] = [
            {"name": each.name, "timeUnixNano": str(each.timestamp), "attributes": _attributes(each.attributes or {})}
            for each in span.events
        ]
    if span.status.status_code.value:
        found["status"] = {"code": span.status.status_code.value}
    return found


def _attributes(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case _:
            return {"arrayValue": {"values": [_value(each) for each in value]}}
