"""Traces for an OpenTelemetry collector; the extra ``opentelemetry`` is imported only where a collector is set."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from . import trace
from .errors import ConfigurationError, HyphaError
from .version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span as NativeSpan
    from opentelemetry.trace import SpanContext

    from .settings import Settings

__all__ = ["check_tracing", "recording"]

log = structlog.get_logger(__name__)

_MAX_QUEUE = 4096  # spans; beyond it the oldest are dropped
_MAX_BATCH = 512
_INTERVAL_MS = 2000
_EXPORT_TIMEOUT_S = 5.0
_CLOSING_S = 2.0  # that a process waits for its last spans to be taken
_MAX_TEXT = 128


def check_tracing(settings: Settings) -> None:
    """Raise ConfigurationError where traces are to be sent and what sends them is not installed."""
    if not settings.otlp_endpoint:
        return
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"otlp_endpoint is set, but {error.name} is not installed: pip install 'hypha[opentelemetry]'"
        ) from None


@asynccontextmanager
async def recording(settings: Settings, role: str, instance: str) -> AsyncIterator[None]:
    """
    Record sampled requests of this process and send them to ``otlp_endpoint``, where that is set.

    Sending is the business of a thread. A collector that is away costs a warning and the spans, nothing else.

    """
    if not settings.otlp_endpoint:
        yield
        return
    check_tracing(settings)
    recorder = _Recorder(settings, role, instance)
    trace.record_with(recorder)
    try:
        yield
    finally:
        trace.record_with(None)
        await asyncio.to_thread(recorder.close)


class _Recorder:
    """Makes spans of OpenTelemetry for :mod:`hypha_common.trace`."""

    def __init__(self, settings: Settings, role: str, instance: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        self.ratio = settings.trace_sample_ratio
        self._ids = _ids()
        resource = Resource.create(
            {
                "service.namespace": "hypha",
                "service.name": f"hypha-{role}",
                "service.version": __version__,
                "service.instance.id": instance,
            }
        )
        # What is recorded was decided where the request came in.
        self._provider: TracerProvider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        endpoint = f"{settings.otlp_endpoint.rstrip('/')}/v1/traces"
        self._provider.add_span_processor(
            BatchSpanProcessor(
                _exporter(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S), endpoint),
                max_queue_size=_MAX_QUEUE,
                max_export_batch_size=_MAX_BATCH,
                schedule_delay_millis=_INTERVAL_MS,
            )
        )
        self._tracer = self._provider.get_tracer("hypha", __version__)

    def start(self, name: str, kind: str, parent: str, root: bool, attributes: Mapping[str, Any]) -> trace.Span:
        from opentelemetry.context import Context
        from opentelemetry.trace import NonRecordingSpan, SpanKind, set_span_in_context

        self._ids.trace_id = int(trace.trace_id(parent), 16)  # of a root; the next statement takes it
        around = Context() if root else set_span_in_context(NonRecordingSpan(_remote(parent)), Context())
        return _Recording(
            self._tracer.start_span(name, around, SpanKind[kind.upper()], attributes, record_exception=False)
        )

    def close(self) -> None:
        """Send what is left, if that is done soon."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSING_S)


class _Recording:
    """A span that is being recorded."""

    __slots__ = ("_native", "context")

    def __init__(self, native: NativeSpan) -> None:
        self._native = native
        known = native.get_span_context()
        self.context = f"00-{known.trace_id:032x}-{known.span_id:016x}-01"

    def end(self, error: BaseException | None = None, *, name: str = "", **attributes: Any) -> None:
        from opentelemetry.trace import Status, StatusCode

        if name:
            self._native.update_name(name)
        self._native.set_attributes(attributes)
        if error is not None:
            # Its class or code alone: messages hold what users said.
            kind = error.code if isinstance(error, HyphaError) else type(error).__name__
            self._native.set_attribute("error.type", kind[:_MAX_TEXT])
            self._native.set_status(Status(StatusCode.ERROR))
        self._native.end()


def _remote(context: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    _, trace_id, span_id, _ = context.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _ids() -> Any:
    """Return what numbers spans: the id of a request's trace was made before it was known to be recorded."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        trace_id = 0

        def generate_trace_id(self) -> int:
            return self.trace_id

    return Ids()


def _exporter(inner: SpanExporter, endpoint: str) -> SpanExporter:
    """Return an exporter that tells once, and not by each attempt, that nobody takes the spans."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    # It says so itself, at ERROR and each time; and it says it when its queue is full.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    class Quiet(SpanExporter):
        _away = False

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = inner.export(spans)
            away = result is not SpanExportResult.SUCCESS
            if away and not self._away:
                log.warning("traces_not_taken", endpoint=endpoint, spans=len(spans))
            elif self._away and not away:
                log.info("traces_taken_again", endpoint=endpoint)
            self._away = away
            return result

        def shutdown(self) -> None:
            inner.shutdown()

    return Quiet()
