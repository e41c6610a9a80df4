"""An engine that counts what goes through it, so that no route needs to know of metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from flask import Flask

from app.metrics import Metrics
from serving.errors import RequestCancelledError
from serving.types import Completion, Engine, EngineStatus, GenerationRequest, Handle


def measure(app: Flask, engine: Engine) -> MeasuredEngine:
    """Wrap an engine so that `/metrics` of this application reports it."""
    metrics = app.extensions["metrics"] = Metrics(engine)
    return MeasuredEngine(engine, metrics)


class MeasuredEngine:
    """An engine that counts what goes through it; see `serving.types.Engine`."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        """Count what `engine` does in `metrics`."""
        self._engine = engine
        self._metrics = metrics

    def submit(self, request: GenerationRequest, *, streams: bool = True) -> Handle:
        """Begin to answer; counted once, when the end is known."""
        try:
            handle = self._engine.submit(request, streams=streams)
        except Exception as error:
            self._metrics.record_failure(request.style, error)
            raise
        return _MeasuredHandle(handle, request.style, self._metrics)

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request, waiting for it."""
        try:
            completion = self._engine.generate(request)
        except Exception as error:
            self._metrics.record_failure(request.style, error)
            raise
        self._metrics.record_completion(completion)
        return completion

    def status(self) -> EngineStatus:
        """A snapshot, without waiting."""
        return self._engine.status()


class _MeasuredHandle:
    """A handle whose end is counted once, however often it is asked for."""

    def __init__(self, handle: Handle, style: str | None, metrics: Metrics) -> None:
        self._handle = handle
        self._style = style
        self._metrics = metrics
        self._lock = threading.Lock()  # whoever notices a client that left may be another thread
        self._is_counted = False

    def __iter__(self) -> Iterator[str]:
        while (piece := self.next_piece()) is not None:
            yield piece

    def next_piece(self, timeout_seconds: float | None = None) -> str | None:
        try:
            piece = self._handle.next_piece(timeout_seconds)
        except TimeoutError:  # it goes on
            raise
        except Exception as error:
            self._count(error)
            raise
        if piece is None:
            self.result()
        return piece

    def result(self) -> Completion:
        try:
            completion = self._handle.result()
        except Exception as error:
            self._count(error)
            raise
        self._count(completion)
        return completion

    def cancel(self) -> None:
        self._handle.cancel()
        self._count(RequestCancelledError())

    def _count(self, end: Completion | Exception) -> None:
        with self._lock:
            is_counted, self._is_counted = self._is_counted, True
        if is_counted:
            return
        if isinstance(end, Completion):
            self._metrics.record_completion(end)
        else:
            self._metrics.record_failure(self._style, end)
