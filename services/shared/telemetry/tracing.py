"""Traces by OpenTelemetry: spans that begin and end where the work does, in any process of a turn.

    the caller ──traceparent──> turn ──> tokenizer ──request parameter──> speech_tokenizer   (another process)
                                  ├────> lm        ────────────────────> step1_chat
                                  └────> …

A span is handed on as a W3C traceparent string. Without an endpoint, or without OpenTelemetry, spans do nothing but
hand on the string that they were given, so that whoever traces behind them still finds its parent.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

_LOG: Final = logging.getLogger(__name__)
_TRACEPARENT: Final = "traceparent"

Attributes: TypeAlias = Mapping[str, str | int | float]
_NONE: Final[Attributes] = {}


class Span(Protocol):
    """Work under way."""

    @property
    def traceparent(self) -> str:
        """What a request carries so that its work becomes a child of this; empty for none."""

    def end(
        self, attributes: Attributes = _NONE, *, error: BaseException | None = None, at_s: float | None = None
    ) -> None:
        """The work has ended, with `error` if it failed, now or at a wall-clock time; a second end does nothing."""


class Traces(Protocol):
    """Where spans go."""

    def begin(self, name: str, *, parent: str = "", attributes: Attributes = _NONE, at_s: float | None = None) -> Span:
        """Begin a span.

        Args:
            name: of the work.
            parent: a traceparent; one that cannot be read counts as none.
            attributes: known by now.
            at_s: wall-clock seconds since 1970; None is now.
        """

    def close(self) -> None:
        """Send what is left."""


def open_traces(endpoint: str, *, service: str) -> Traces:
    """Traces to an OTLP collector.

    Args:
        endpoint: URL of its gRPC receiver, http:// or https://; empty for no traces.
        service: name of this process in them.
    """
    if not endpoint:
        return NoTraces()
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        _LOG.warning("no traces: OpenTelemetry is not installed", extra={"endpoint": endpoint})
        return NoTraces()
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return OtelTraces(provider)


class NoTraces:
    """Spans that are not kept."""

    def begin(self, name: str, *, parent: str = "", attributes: Attributes = _NONE, at_s: float | None = None) -> Span:
        """Give a span that hands its parent on."""
        return _PassedOn(parent)

    def close(self) -> None:
        """Nothing is left."""


class _PassedOn:
    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def end(
        self, attributes: Attributes = _NONE, *, error: BaseException | None = None, at_s: float | None = None
    ) -> None:
        pass


class OtelTraces:
    """Spans of a tracer provider."""

    def __init__(self, provider: "TracerProvider") -> None:
        """Args: provider: with its exporters; closed with this."""
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("stepaudio")

    def begin(self, name: str, *, parent: str = "", attributes: Attributes = _NONE, at_s: float | None = None) -> Span:
        """Begin a span."""
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract({_TRACEPARENT: parent}, context=Context())
        return _Recorded(
            self._tracer.start_span(name, context=context, attributes=attributes, start_time=_nanoseconds(at_s))
        )

    def close(self) -> None:
        """Send what is left and stop."""
        self._provider.shutdown()


class _Recorded:
    def __init__(self, span: "OtelSpan") -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def end(
        self, attributes: Attributes = _NONE, *, error: BaseException | None = None, at_s: float | None = None
    ) -> None:
        from opentelemetry.trace import Status, StatusCode

        if not self._span.is_recording():
            return
        self._span.set_attributes(attributes)
        if error is not None:
            self._span.set_status(
                Status(StatusCode.ERROR, type(error).__name__)
            )  # its message may hold the user's words
        self._span.end(_nanoseconds(at_s))


def _nanoseconds(at_s: float | None) -> int | None:
    return None if at_s is None else round(at_s * 1e9)
