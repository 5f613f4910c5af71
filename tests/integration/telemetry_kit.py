"""What an app's OpenTelemetry would be told, in place of an SDK."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags


class Told(NonRecordingSpan):
    """A span that remembers."""

    def __init__(self, name: str, attributes: dict[str, Any], number: int) -> None:
        super().__init__(SpanContext(0xAB, number, is_remote=False, trace_flags=TraceFlags(1)))
        self.name = name
        self.attributes = dict(attributes)
        self.is_ended = False
        self.status = ""

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        assert status is StatusCode.ERROR
        self.status = description or ""

    def end(self, end_time: int | None = None) -> None:
        assert not self.is_ended, "ended twice"
        self.is_ended = True


class Telemetry:
    """Stands in for the providers while a test lasts; open the channels afterwards."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spans: list[Told] = []
        self.records: list[tuple[str, float, dict[str, Any]]] = []
        monkeypatch.setattr(trace, "get_tracer", lambda name: self)
        monkeypatch.setattr(metrics, "get_meter", lambda name: self)

    def start_span(self, name: str, *, kind: SpanKind, attributes: dict[str, Any]) -> Told:
        assert kind is SpanKind.CLIENT
        self.spans.append(Told(name, attributes, len(self.spans) + 1))
        return self.spans[-1]

    def create_histogram(self, name: str, **details: Any) -> Any:
        told = self.records

        class Histogram:
            def record(self, value: float, labels: dict[str, Any]) -> None:
                told.append((name, value, dict(labels)))

        return Histogram()

    @property
    def calls(self) -> list[tuple[str, int]]:
        """Methods and status codes, as the histogram was told."""
        return [(labels["rpc.method"], labels["rpc.grpc.status_code"]) for _, _, labels in self.records]

    def __str__(self) -> str:
        spans = [(span.name, span.attributes, span.status) for span in self.spans]
        return f"{spans} {self.records}"
