"""Where telemetry goes, by OpenTelemetry's standard variables: a collector, a file, or nowhere.

OTEL_SDK_DISABLED=true                      nothing is made
OTEL_EXPORTER_OTLP_ENDPOINT, ..._TRACES_ENDPOINT, ..._METRICS_ENDPOINT
                                            a collector that speaks OTLP over HTTP, with the SDK's further variables
OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER otlp, or none
none of these                               files in the home
"""

from collections.abc import Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from ...core.urls import without_secrets

_PROTOCOL = "http/protobuf"


class Target(StrEnum):
    """Where one kind of telemetry goes."""

    COLLECTOR = "collector"
    FILE = "file"
    NOWHERE = "nowhere"


class Targets(BaseModel):
    """Where everything goes."""

    model_config = ConfigDict(frozen=True)

    traces: Target
    metrics: Target
    collector: str = ""
    """How to name the collector to people."""
    complaint: str = ""
    """What was asked for and can't be had."""

    @property
    def nothing(self) -> bool:
        """Whether nothing goes anywhere."""
        return self.traces is self.metrics is Target.NOWHERE


def targets(environ: Mapping[str, str]) -> Targets:
    """Read the variables."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Targets(traces=Target.NOWHERE, metrics=Target.NOWHERE)
    traces, first = _target(environ, "TRACES")
    metrics, second = _target(environ, "METRICS")
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    collector = next((environ[name] for name in names if environ.get(name)), "http://localhost:4318")
    return Targets(traces=traces, metrics=metrics, collector=without_secrets(collector), complaint=first or second)


def captures_content(environ: Mapping[str, str]) -> bool:
    """Whether messages of models and arguments of tools may go into spans."""
    asked = environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").strip().lower()
    return asked in ("true", "1", "span_only", "span_and_event")


def _target(environ: Mapping[str, str], kind: str) -> tuple[Target, str]:
    asked = environ.get(f"OTEL_{kind}_EXPORTER", "").strip().lower()
    if asked == "none":
        return Target.NOWHERE, ""
    endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{kind}_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if asked not in ("", "otlp"):
        return Target.FILE, f"OTEL_{kind}_EXPORTER={asked} is unknown here: expected otlp or none; writing files"
    if not endpoint and not asked:
        return Target.FILE, ""
    protocol = environ.get(f"OTEL_EXPORTER_OTLP_{kind}_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if (protocol or _PROTOCOL).strip().lower() != _PROTOCOL:
        return Target.FILE, f"the protocol {protocol} is not spoken here: expected {_PROTOCOL}; writing files"
    return Target.COLLECTOR, ""
