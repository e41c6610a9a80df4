"""gunicorn's threaded worker, made safe against clients that do not hang up."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn import util
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import ThreadWorker


class LingeringWorker(ThreadWorker):  # type: ignore[misc]
    """Waits for a client to hang up in the thread that served it.

    gunicorn 27.0.1 does so in the thread that accepts connections: every client that leaves its
    side open stops the whole server for two seconds, and a few of them keep it stopped.

    It also leaves when it is told to quit while it hands a request to a thread, where gunicorn's
    own would wait for ever for a lock that it holds itself.
    """

    def init_process(self) -> None:
        """Begin to serve."""
        logging.getLogger("gunicorn.error").addFilter(_is_no_slow_client)
        super().init_process()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Leave as soon as the threads are done; the end of the process tells them."""
        Worker.handle_quit(self, sig, frame)

    def handle(self, conn: Any) -> Any:
        """Serve a request; the connection is closed here unless it is kept."""
        is_kept = super().handle(conn)
        if not is_kept:
            util.close_graceful(conn.sock)
            conn.close = _already_closed
        return is_kept


def _already_closed(graceful: bool = False) -> None:
    """Instead of closing a connection once more."""


def _is_no_slow_client(record: logging.LogRecord) -> bool:
    """Time limits on sockets end in this error; a traceback for each would fill the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))
