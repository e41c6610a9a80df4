"""An application for a real server to run, around an engine that tells who is still there.

`gunicorn "tests.app.served:build()"`. The question says what the engine does: `mute` gives
nothing, `silent` a word and then nothing, `talks` words without end; anything else is answered, but
only after a while. `/health` counts as running whoever has not been answered or given up.
"""

from __future__ import annotations

import dataclasses
import threading
import time

from flask import Flask

from app import create_app
from serving.handle import RequestHandle
from serving.types import Completion, EngineStatus, GenerationRequest
from tests.fakes import COMPLETION, READY

THINKS_SECONDS = 1.0
"""Several times as long as a silent connection goes unwatched."""


class CountingEngine:
    """A `serving.types.Engine` without a model, which keeps every handle that it gave out."""

    def __init__(self) -> None:
        self._handles: list[RequestHandle] = []
        self._answered: list[RequestHandle] = []

    def submit(self, request: GenerationRequest, *, streams: bool = True) -> RequestHandle:
        handle = RequestHandle(streams=streams)
        self._handles.append(handle)
        question = request.messages[-1].content
        works = {"mute": lambda _: None, "silent": self._say_one_word, "talks": self._talk}
        work = works.get(question, self._answer)
        threading.Thread(target=work, args=(handle,), daemon=True).start()
        return handle

    def generate(self, request: GenerationRequest) -> Completion:
        return self.submit(request, streams=False).result()

    def status(self) -> EngineStatus:
        gone = [handle for handle in self._handles if handle.cancelled]
        return dataclasses.replace(
            READY, num_running=len(self._handles) - len({*gone, *self._answered}), num_waiting=0
        )

    def _say_one_word(self, handle: RequestHandle) -> None:
        if handle.streams:
            handle.put("It ")

    def _talk(self, handle: RequestHandle) -> None:
        while not handle.cancelled:
            handle.put("word ")
            time.sleep(0.02)

    def _answer(self, handle: RequestHandle) -> None:
        time.sleep(THINKS_SECONDS)
        handle.put(COMPLETION)
        self._answered.append(handle)


def build() -> Flask:
    """The application."""
    return create_app(CountingEngine())
