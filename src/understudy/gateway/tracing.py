"""OpenTelemetry: a span and two measurements for each call, by its conventions for generative AI.

Names and units: opentelemetry.io/docs/specs/semconv/gen-ai/ (read in 2026). Where they go is said
by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT, …); without any, to
http://localhost:4318. Prompts and answers are not in them.
"""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from understudy.gateway.calls import ChatCall
from understudy.gateway.targets import Target

_NAME = "understudy-gateway"
_MAKERS = {"openai": "openai", "anthropic": "anthropic", "google": "gcp.gemini"}
_SETTINGS = ("max_tokens", "temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")
_KINDS = (
    *(("/chat/completions", "chat"), ("/completions", "text_completion")),
    *(("/embeddings", "embeddings"), ("enerateContent", "generate_content")),
)
_OWN = ("id", "by", "mode", "microusd", "is_bound", "first_ms", "caller", "service", "rehearsal")
# Buckets as the conventions have them.
_SECONDS = [0.01 * 2**step for step in range(14)]
_TOKENS = [4**step for step in range(14)]


class Tracing:
    """What is told to a collector; batches leave in a thread of their own."""

    def __init__(self) -> None:
        resource = Resource.create()  # with what the environment says
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: _NAME}))
        self._spans = TracerProvider(resource=resource)
        self._spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._spans.get_tracer(_NAME)
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        self._meters = MeterProvider(metric_readers=[reader], resource=resource)
        meter = self._meters.get_meter(_NAME)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", explicit_bucket_boundaries_advisory=_TOKENS
        )

    def ended(self, call: ChatCall, target: Target | None, about: dict[str, Any]) -> None:
        """Tell of a call; `about` is its line in the log of requests."""
        facts = _facts(call, target, about)
        end = time.time_ns()
        name = f"{facts['gen_ai.operation.name']} {facts.get('gen_ai.request.model', '')}".strip()
        parent: Context = TraceContextTextMapPropagator().extract(call.headers)
        more = {
            f"gen_ai.request.{name}": call.body[name]
            for name in _SETTINGS
            if isinstance(call.body.get(name), int | float)
        }
        for kind in ("input", "output"):
            if kind in about:
                more[f"gen_ai.usage.{kind}_tokens"] = about[kind]
                labels = facts | {"gen_ai.token.type": kind}
                self._tokens.record(about[kind], labels)
        if call.talk is not None:
            more["gen_ai.conversation.id"] = call.talk
        more |= {f"understudy.{k}": about[k] for k in _OWN if about.get(k) is not None}
        span = self._tracer.start_span(
            name,
            parent,
            SpanKind.CLIENT,
            attributes=facts | more,
            start_time=end - about["ms"] * 1_000_000,
        )
        if "error.type" in facts:
            span.set_status(StatusCode.ERROR)
        span.end(end)
        self._duration.record(about["ms"] / 1000, facts)

    def close(self) -> None:
        """Send what is left."""
        self._spans.shutdown()
        self._meters.shutdown()


def _facts(call: ChatCall, target: Target | None, about: Mapping[str, Any]) -> dict[str, str | int]:
    """Return what tells one kind of call from another."""
    path, provider = str(about.get("path", "")), "understudy"
    if target is None or target.service is not None:
        kind = "unknown" if target is None or target.service is None else target.service.provider
        provider = _MAKERS.get(kind, kind)
    found: dict[str, str | int] = {
        "gen_ai.operation.name": next((what for end, what in _KINDS if end in path), "chat"),
        "gen_ai.provider.name": provider,
    }
    if about.get("model"):
        found["gen_ai.request.model"] = about["model"]
    if target is not None:
        place = urlsplit(target.url)
        found["server.address"] = place.hostname or ""
        found["server.port"] = place.port or (443 if place.scheme == "https" else 80)
        if (model := target.model or call.model) is not None:
            found["gen_ai.response.model"] = model
    if about["status"] >= 400 or about.get("is_broken"):
        found["error.type"] = "broken_off" if about["status"] < 400 else str(about["status"])
    return found
