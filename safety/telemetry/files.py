"""The exporters of a machine without a collector: lines of OTLP-JSON in the home, bounded in size.

    telemetry/c1.traces.0001.jsonl      a span a line
    telemetry/c1.metrics.0001.jsonl     an export of the metrics a line

A file that is full is followed by one with the next number, and the oldest files of the folder go when all together
are too large. A line is written at once and whole; a torn one, which a crash of the machine can leave, is cut off.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .otlp_json import metrics_line, resource_of, span_line
from .trouble import Trouble

FILE_BYTES = 8 << 20
FOLDER_BYTES = 64 << 20


class LineFile:
    """Numbered files of whole lines, appended to by one process at a time."""

    def __init__(
        self, folder: Path, stem: str, *, file_bytes: int = FILE_BYTES, folder_bytes: int = FOLDER_BYTES
    ) -> None:
        self._folder, self._stem = folder, re.sub(r"[^A-Za-z0-9._-]", "_", stem)[:100]
        self._file_bytes, self._folder_bytes = file_bytes, folder_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._number = max((self._number_of(path) for path in folder.glob(f"{self._stem}.*.jsonl")), default=1)
        self._handle = self._open()

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines.

        Raises:
            OSError: the disk is full, or the folder is gone; nothing of these lines is left then.
        """
        size = os.fstat(self._handle).st_size
        data = b"".join(lines)
        if size and size + len(data) > self._file_bytes:
            os.close(self._handle)
            self._number += 1
            self._handle = self._open()
            size = 0
            self._make_room()
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError:
            os.ftruncate(self._handle, size)
            raise

    def close(self) -> None:
        """Close the file."""
        handle, self._handle = self._handle, -1  # a number that is closed may be another's the next moment
        if handle >= 0:
            os.close(handle)

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self._folder / f"{self._stem}.{self._number:04d}.jsonl"

    def _number_of(self, path: Path) -> int:
        number = path.name.removesuffix(".jsonl").rpartition(".")[2]
        return int(number) if number.isdigit() else 1

    def _open(self) -> int:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            start = max(0, size - self._file_bytes)
            os.ftruncate(handle, start + os.pread(handle, size - start, start).rfind(b"\n") + 1)
        return handle

    def _make_room(self) -> None:
        files = sorted((each.stat().st_mtime_ns, each) for each in self._folder.glob("*.jsonl") if each != self.path)
        total = sum(each.stat().st_size for _, each in files)
        for _, oldest in files:
            if total + self._file_bytes <= self._folder_bytes:
                return
            total -= oldest.stat().st_size
            oldest.unlink(missing_ok=True)


class SpanFile(SpanExporter):
    """Writes spans to a `LineFile`."""

    def __init__(self, file: LineFile, trouble: Trouble) -> None:
        self._file, self._trouble = file, trouble

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write a batch."""
        try:
            resource = resource_of(spans[0].resource) if spans else {}
            self._file.write([span_line(span, resource) for span in spans])
        except (OSError, ValueError) as error:
            self._trouble.tell(str(error))
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the file."""
        self._file.close()


class MetricFile(MetricExporter):
    """Writes metrics to a `LineFile`."""

    def __init__(self, file: LineFile, trouble: Trouble) -> None:
        super().__init__()
        self._file, self._trouble = file, trouble

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Write one export."""
        try:
            self._file.write([metrics_line(metrics_data)])
        except (OSError, ValueError) as error:
            self._trouble.tell(str(error))
            return MetricExportResult.FAILURE
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is held back."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Close the file."""
        self._file.close()
