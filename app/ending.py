"""What is to be done once an answer is over: sent to the last byte, failed or given up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, request
from werkzeug.wsgi import ClosingIterator

logger = logging.getLogger(__name__)

Callback = Callable[[], None]

_CALLBACKS = "laconic.when_over"


def register(app: Flask) -> None:
    """Make `when_over` work; to be called once for each application."""
    app.wsgi_app = _Ending(app.wsgi_app)  # type: ignore[method-assign]


def when_over(callback: Callback, environ: dict[str, Any] | None = None) -> None:
    """Call back exactly once when the answer to the current request is over, whatever happens.

    Flask's own hooks run before a stream has begun, or not at all after some failures.
    """
    environ = request.environ if environ is None else environ
    environ[_CALLBACKS].append(callback)


class _Ending:
    """A WSGI application that calls back after each answer, the latest first."""

    def __init__(self, wsgi_app: Callable[..., Iterable[bytes]]) -> None:
        self._wsgi_app = wsgi_app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        callbacks: list[Callback] = []
        environ[_CALLBACKS] = callbacks
        try:
            body = self._wsgi_app(environ, start_response)
        except BaseException:
            _call_all(callbacks)
            raise
        return ClosingIterator(body, lambda: _call_all(callbacks))


def _call_all(callbacks: list[Callback]) -> None:
    while callbacks:  # each leaves the list first, so that closing twice calls nothing twice
        callback = callbacks.pop()
        try:
            callback()
        except Exception:
            logger.exception("a callback failed")
