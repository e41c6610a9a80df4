"""What a real gunicorn runs in tests: the application around an engine that is slow on demand.

What a request asks for stands in its prompt: "words 3 seconds 0.2" are three words, one each 0.2
seconds. Facts about the engine are at /probe; see `tests.app.servers`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import threading
import time
from collections.abc import Iterator

from flask import Flask, jsonify

from app import create_app, logs
from app.config import WebConfig
from serving.config import EngineConfig
from serving.environment import read_environment
from serving.errors import EngineBusyError, RequestCancelledError
from serving.types import Completion, EngineStatus, GenerationRequest
from tests.fakes import COMPLETION, READY, find_style

logger = logging.getLogger(__name__)


class SlowHandle:
    """A `serving.types.Handle` that gives a word now and then."""

    def __init__(self, engine: SlowEngine, words: int, seconds: float) -> None:
        self._engine = engine
        self._words = words
        self._seconds = seconds
        self._next = time.monotonic() + seconds
        self._is_present = True
        self.cancelled = False

    def __iter__(self) -> Iterator[str]:
        while (word := self.next_piece()) is not None:
            yield word

    def next_piece(self, timeout_seconds: float | None = None) -> str | None:
        if self.cancelled:
            raise RequestCancelledError("cancelled")
        if self._words == 0:
            self._leave()
            return None
        left = self._next - time.monotonic()
        if timeout_seconds is not None and left > timeout_seconds:
            time.sleep(timeout_seconds)
            raise TimeoutError
        time.sleep(max(0, left))
        self._words -= 1
        self._next += self._seconds
        return self._engine.word

    def result(self) -> Completion:
        for _ in self:
            pass
        return COMPLETION

    def cancel(self) -> None:
        if self._is_present and not self.cancelled:
            self.cancelled = True
            self._engine.num_cancelled += 1
        self._leave()

    def _leave(self) -> None:
        if self._is_present:
            self._is_present = False
            self._engine.leave()


class SlowEngine:
    """A `serving.types.Engine` that sleeps instead of computing; full beyond a number."""

    def __init__(self, places: int, word: str) -> None:
        self.word = word
        self.num_cancelled = 0
        self.num_present = 0
        self._places = places
        self._lock = threading.Lock()

    def submit(self, request: GenerationRequest, *, streams: bool = True) -> SlowHandle:
        find_style(request)
        asked = re.fullmatch(r"words (\d+) seconds ([\d.]+)", request.messages[-1].content)
        words, seconds = (int(asked[1]), float(asked[2])) if asked else (1, 0.0)
        with self._lock:
            if self.num_present >= self._places:
                raise EngineBusyError("full", retry_after_seconds=1)
            self.num_present += 1
        logger.info("accepted")  # with the id of the request, as every line about one
        return SlowHandle(self, words, seconds)

    def generate(self, request: GenerationRequest) -> Completion:
        return self.submit(request).result()

    def status(self) -> EngineStatus:
        return dataclasses.replace(READY, num_running=self.num_present, num_waiting=0)

    def leave(self) -> None:
        with self._lock:
            self.num_present -= 1


def build_app() -> Flask:
    _, config = read_environment(os.environ, EngineConfig, WebConfig)
    logs.configure(config)
    places = int(os.environ.get("TEST_PLACES", "32"))
    word = "x" * int(os.environ.get("TEST_LETTERS", "4"))
    engine = SlowEngine(places, word)
    app = create_app(engine, config)

    def probe():
        counts = {"present": engine.num_present, "cancelled": engine.num_cancelled}
        return jsonify(**counts, pid=os.getpid())

    app.add_url_rule("/probe", view_func=probe)
    return app


def __getattr__(name: str) -> Flask:
    if name != "app":
        raise AttributeError(name)
    globals()["app"] = application = build_app()
    return application
