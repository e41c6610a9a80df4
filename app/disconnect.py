"""Notices a client that is gone, so that nothing is generated for nobody.

gunicorn itself notices only when it writes, which is never while an answer is awaited. A client
that closes merely its sending side after its request counts as gone as well: hardly any does.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

from flask import request

from app import logs
from serving.errors import RequestCancelledError
from serving.types import Completion, Handle

WATCH_SECONDS = 0.25
"""A silent connection is looked at that often."""

# Unlike reading ahead, polling works on TLS sockets and behind bytes that nobody has read.
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR | select.POLLNVAL


def watch(handle: Handle) -> Iterator[str | None]:
    """Pieces of text as they come, and None now and then while there are none.

    Raises:
        RequestCancelledError: the client of the current request is gone; the handle was cancelled.
        ServingError: the request failed.
    """
    connection: socket.socket | None = request.environ.get("gunicorn.socket")
    while True:
        try:
            piece = handle.next_piece(WATCH_SECONDS)
        except TimeoutError:
            if connection is not None and is_gone(connection):
                handle.cancel()
                logs.note_client_gone()
                raise RequestCancelledError("the client is gone") from None
            yield None
            continue
        if piece is None:
            return
        yield piece


def wait_for(handle: Handle) -> Completion:
    """The completion of a handle; raises what `watch` raises."""
    for _ in watch(handle):
        pass
    return handle.result()


def is_gone(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection, or this side has; does not wait."""
    if connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection, _GONE)
    return bool(poll.poll(0))
