"""Traces by OpenTelemetry: a span for each request, and below it what a model took for it.

Off unless `begin` is called; then the package's `otel` extra is needed, and is imported only then.
The spans of a call (load, queue, prefill, decode) are made at its end out of what its node has
told, so nodes know nothing of traces and a token costs nothing. A trace that the client's
`traceparent` names is gone on with (https://www.w3.org/TR/trace-context/). Attributes are those of
OpenTelemetry's conventions; no text, key, path or query is among them. Knows no engine.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span, Tracer

_CARRIED: Final = ("traceparent", "tracestate")
_NS_PER_US: Final = 1000
_SERVER_ERROR: Final = 500
NOT_INSTALLED: Final = (
    "OLLAMASITE_OTLP_ENDPOINT is set and OpenTelemetry is not installed: "
    "`pip install --editable '.[otel]'` in the site's folder, or unset it."
)


class _Process:
    """What there is once in a process."""

    def __init__(self) -> None:
        self.provider: TracerProvider | None = None
        self.tracer: Tracer | None = None


_process: Final = _Process()


def begin(endpoint: str) -> None:
    """Send traces to a collector (OTLP over HTTP) from now on. Raises ImproperlyConfigured.

    Starts a thread that sends them; one that cannot be sent is dropped, and a line logged.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ImproperlyConfigured(NOT_INSTALLED) from error
    begin_with(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))


def begin_with(processor: SpanProcessor) -> None:
    """Hand spans that have ended to a processor from now on."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    about = {"service.name": "ollamasite", "service.version": metadata.version("ollamasite")}
    _process.provider = TracerProvider(resource=Resource.create(about))
    _process.provider.add_span_processor(processor)
    _process.tracer = _process.provider.get_tracer("ollamasite")


def finish() -> None:
    """Send what is left, and make no traces any longer. Blocks."""
    provider, _process.provider, _process.tracer = _process.provider, None, None
    if provider is not None:
        provider.shutdown()


def start(scope: Mapping[str, Any]) -> RequestTrace | None:
    """Begin the span of an ASGI connection; None: no traces are made."""
    tracer = _process.tracer
    return None if tracer is None else RequestTrace(tracer, scope)


class RequestTrace:
    """The span of one request, and what is below it."""

    def __init__(self, tracer: Tracer, scope: Mapping[str, Any]) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._tracer = tracer
        self._span = tracer.start_span(scope["type"], _context_of(scope), SpanKind.SERVER)
        self._context = set_span_in_context(self._span)

    @property
    def trace_id(self) -> str:
        """The trace's id, 32 hex."""
        return f"{self._span.get_span_context().trace_id:032x}"

    def end(self, *, route: str, method: str, status: int | None, request_id: str) -> None:
        """End the request's span; `status` None: its client left."""
        from opentelemetry.trace import Status, StatusCode

        self._span.update_name(f"{method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.request.method", method)
        self._span.set_attribute("ollamasite.request_id", request_id)
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
            if status >= _SERVER_ERROR:
                self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()

    def add_call(
        self,
        name: str,
        attributes: Mapping[str, str | int],
        *,
        began_us: int,
        ended_us: int,
        phases: Sequence[tuple[str, int]],
    ) -> None:
        """Tell a call to a model: its phases follow one another, each of so many microseconds."""
        from opentelemetry.trace import set_span_in_context

        call = self._spanned(name, self._context, began_us, ended_us, attributes)
        below = set_span_in_context(call)
        at_us = began_us
        for phase, length_us in phases:
            ends_us = min(at_us + length_us, ended_us)
            if ends_us > at_us:
                self._spanned(phase, below, at_us, ends_us, {})
            at_us = ends_us

    def _spanned(
        self,
        name: str,
        above: Context,
        began_us: int,
        ended_us: int,
        attributes: Mapping[str, str | int],
    ) -> Span:
        span = self._tracer.start_span(
            name, above, attributes=dict(attributes), start_time=began_us * _NS_PER_US
        )
        span.end(ended_us * _NS_PER_US)
        return span


def _context_of(scope: Mapping[str, Any]) -> Context:
    """Return the trace that a client asks to be gone on with; what makes no sense is a new one."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers = ((name.decode("latin-1"), text.decode("latin-1")) for name, text in scope["headers"])
    carrier = {name: text for name, text in headers if name in _CARRIED}
    return TraceContextTextMapPropagator().extract(carrier)
