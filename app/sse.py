"""Server-sent events: an answer written while it is being generated."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Protocol

from flask import Response, stream_with_context

from app import logs
from app.context import get_config
from app.disconnect import watch
from serving.types import Completion, Handle

PING = ": ping\n\n"
"""A comment: keeps a connection in use and means nothing."""

_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would collect the events and send them together
}


class StreamFormat(Protocol):
    """How an API writes an answer; every method returns whole events, or an empty text."""

    def piece(self, text: str) -> str:
        """Text that was just generated."""
        ...

    def end(self, completion: Completion) -> str:
        """The answer is complete; nothing follows."""
        ...

    def failure(self, error: Exception) -> str:
        """The answer will never be complete; nothing follows."""
        ...


def event(data: object, name: str | None = None) -> str:
    """An event with JSON data, of the default type `message` without a name."""
    # ASCII, so that no character of a text can end a line or be unfit for UTF-8
    lines = f"data: {json.dumps(data, allow_nan=False)}\n\n"
    return lines if name is None else f"event: {name}\n{lines}"


def respond(handle: Handle, form: StreamFormat, *, opening: str = PING) -> Response:
    """A response that writes the answer of a handle, and cancels it when the client is gone.

    `opening` is sent at once, so that a client sees the status long before a slow first word.
    """
    events = stream_with_context(_events(handle, form, opening))
    response = Response(events, mimetype="text/event-stream", headers=_HEADERS)
    # Runs also if no event was ever asked for. After the end there is nothing left to cancel.
    response.call_on_close(handle.cancel)
    return response


def _events(handle: Handle, form: StreamFormat, opening: str) -> Iterator[str]:
    yield opening
    try:
        yield from _pieces(handle, form, get_config().sse_ping_seconds)
        yield form.end(handle.result())
    except GeneratorExit:  # what was written reached nobody
        logs.note_client_gone()
        raise
    except Exception as error:  # the status is sent already: only an event can tell
        yield form.failure(error)


def _pieces(handle: Handle, form: StreamFormat, ping_seconds: float) -> Iterator[str]:
    last = time.monotonic()
    for text in watch(handle):
        if text is not None:
            yield form.piece(text)
        elif time.monotonic() - last >= ping_seconds:
            yield PING
        else:
            continue
        last = time.monotonic()
