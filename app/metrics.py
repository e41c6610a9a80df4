"""`GET /metrics`: how the server does, for Prometheus; named as in dashboards for vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from flask import Blueprint, Response, current_app, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from serving.errors import (
    DeadlineExceededError,
    DeviceLostError,
    EngineBusyError,
    EngineNotReadyError,
    GenerationError,
    InvalidRequestError,
    RequestCancelledError,
)
from serving.types import Completion, Engine, EngineStatus, FinishReason

blueprint = Blueprint("metrics", __name__)

PREFIX = "laconic_"

_REASONS: dict[type[Exception], str] = {
    InvalidRequestError: "invalid",
    EngineBusyError: "busy",
    EngineNotReadyError: "not_ready",
    DeadlineExceededError: "deadline",
    RequestCancelledError: "cancelled",
    GenerationError: "generation",
    DeviceLostError: "device_lost",
}
_UNEXPECTED = "unexpected"
_UNKNOWN_STYLE = "unknown"
"""Stands for every name that is no style, so that callers cannot make up series."""

_FIRST_TOKEN_BUCKETS = (
    0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)  # fmt: skip
_LATENCY_BUCKETS = (
    0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120,
)  # fmt: skip
_TOKEN_TIME_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5,
)  # fmt: skip
_LENGTH_BUCKETS = (1, 2, 5, 10, 20, 32, 50, 80, 128, 200, 256, 512, 1024)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Everything there is to know, in the format that the scraper asks for."""
    registry: CollectorRegistry = current_app.extensions["metrics"].registry
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry), content_type=content_type)


class Metrics:
    """Counts what an engine finishes and fails to; every application has its own."""

    def __init__(self, engine: Engine) -> None:
        """Every series that can ever be is there from the start, at zero."""
        status = engine.status()
        self.registry = CollectorRegistry()
        self._model = status.model
        self._default_style = status.default_style
        self._styles = [style.name for style in status.styles]
        self._make_counters()
        self._make_histograms()
        self._start_at_zero()
        self.registry.register(_StatusCollector(engine))
        ProcessCollector(registry=self.registry)

    def record_completion(self, completion: Completion) -> None:
        """Count a finished answer."""
        labels = self._labels(completion.style)
        self._successes.labels(*labels, completion.finish_reason).inc()
        self._prompt_tokens.labels(*labels).inc(completion.num_prompt_tokens)
        self._tokens.labels(*labels).inc(completion.num_tokens)
        self._length.labels(*labels).observe(completion.num_tokens)
        self._first_token.labels(*labels).observe(completion.first_token_seconds)
        self._latency.labels(*labels).observe(completion.seconds)
        if completion.num_tokens > 1:  # the time between tokens needs two of them
            seconds = completion.seconds - completion.first_token_seconds
            self._token_time.labels(*labels).observe(seconds / (completion.num_tokens - 1))

    def record_failure(self, style: str | None, error: Exception) -> None:
        """Count a request that got no answer; `style` as the request named it."""
        labels = self._labels(self._default_style if style is None else style)
        known = (reason for kind, reason in _REASONS.items() if isinstance(error, kind))
        reason = next(known, _UNEXPECTED)
        self._failures.labels(*labels, reason).inc()

    def _labels(self, style: str) -> tuple[str, str]:
        return self._model, style if style in self._styles else _UNKNOWN_STYLE

    def _make_counters(self) -> None:
        self._successes = self._counter(
            "request_success", "Answers that were finished.", "finished_reason"
        )
        self._failures = self._counter("request_failures", "Requests without an answer.", "reason")
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of answered prompts.")
        self._tokens = self._counter("generation_tokens", "Tokens of finished answers.")

    def _make_histograms(self) -> None:
        self._first_token = self._histogram(
            "time_to_first_token_seconds",
            "From acceptance to the first token, waiting included.",
            _FIRST_TOKEN_BUCKETS,
        )
        self._latency = self._histogram(
            "e2e_request_latency_seconds",
            "From acceptance to the last token, waiting included.",
            _LATENCY_BUCKETS,
        )
        self._token_time = self._histogram(
            "request_time_per_output_token_seconds",
            "Mean time between the tokens of an answer.",
            _TOKEN_TIME_BUCKETS,
        )
        self._length = self._histogram(
            "request_generation_tokens", "Tokens of an answer.", _LENGTH_BUCKETS
        )

    def _counter(self, name: str, text: str, *more_labels: str) -> Counter:
        labels = ("model", "style", *more_labels)
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        labels = ("model", "style")
        return Histogram(PREFIX + name, text, labels, buckets=buckets, registry=self.registry)

    def _start_at_zero(self) -> None:
        """Rates over a series need a value from before the first event."""
        for style in self._styles:
            labels = self._labels(style)
            for metric in (self._prompt_tokens, self._tokens, self._first_token, self._latency):
                metric.labels(*labels)
            self._token_time.labels(*labels)
            self._length.labels(*labels)
            for finished in get_args(FinishReason):
                self._successes.labels(*labels, finished)
        for style in (*self._styles, _UNKNOWN_STYLE):
            for reason in (*_REASONS.values(), _UNEXPECTED):
                self._failures.labels(*self._labels(style), reason)


class _StatusCollector:
    """What an engine says of itself at the moment of a scrape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        status = self._engine.status()
        for name, text, value in _gauges(status):
            gauge = GaugeMetricFamily(PREFIX + name, text, labels=["model"])
            gauge.add_metric([status.model], value)
            yield gauge
        facts = {
            "model": status.model,
            "adapter": status.adapter,
            "adapter_version": status.adapter_version,
            "quantization": status.quantization,
        }
        info = GaugeMetricFamily(PREFIX + "build_info", "What runs; always 1.", labels=list(facts))
        info.add_metric(list(facts.values()), 1)
        yield info


def _gauges(status: EngineStatus) -> Iterator[tuple[str, str, float]]:
    yield "engine_ready", "1 while the engine can answer, else 0.", status.state == "ready"
    yield "engine_seconds_since_step", "Since its last sign of life.", status.seconds_since_step
    yield "num_requests_running", "Requests that are being answered.", status.num_running
    yield "num_requests_waiting", "Requests in the queue.", status.num_waiting
    yield "queue_size", "Requests that may wait; one more is refused.", status.queue_size
    yield "kv_cache_tokens", "Tokens that fit into the cache.", status.kv_cache_tokens
    share = status.kv_cache_tokens_used / max(1, status.kv_cache_tokens)
    yield "kv_cache_usage_perc", "Share of the cache that requests hold, 0 to 1.", share
    yield "gpu_memory_bytes", "Memory of the process on the GPU.", status.gpu_memory_gb * 1e9
