"""The log: one line for each request, and a request id in every line that is about it.

Nobody's words are written unless LACONIC_LOG_PROMPTS asks for it, and nothing that a client sends
can begin a line of its own.
"""

from __future__ import annotations

import logging
import re
import sys
import time
import uuid
import warnings
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO

import structlog
from flask import Flask, Response, request

from app import auth
from app.config import WebConfig
from app.context import get_config
from app.ending import when_over
from serving.types import GenerationRequest

REQUEST_ID_HEADER = "X-Request-ID"

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that did not wait for its answer; it is logged and never sent."""

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ID, _FIELDS = "laconic.request_id", "laconic.log_fields"
# Everything that can end a line or command a terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# It would fetch a kernel from a hub if another package were there.
_ASKS_FOR_A_PACKAGE = "bitsandbytes.backends.cpu.ops"
_GUNICORN = ("gunicorn.error", "gunicorn.access")

logger = logging.getLogger(__name__)


def configure(config: WebConfig, stream: TextIO | None = None) -> None:
    """Write all logs of the process, gunicorn's too, in the format of the settings."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(_formatter(config))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # What libraries tell each other about names to come, nobody here can change.
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger(_ASKS_FOR_A_PACKAGE).setLevel(logging.ERROR)
    for name in _GUNICORN:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def register(app: Flask) -> None:
    """Give every request an id and a line."""
    app.wsgi_app = _Identify(app.wsgi_app)  # type: ignore[method-assign]
    app.before_request(_begin)
    app.after_request(_note_answer)


def note_generation(asked: GenerationRequest) -> None:
    """Write into the line of the current request what was asked for."""
    fields = request.environ[_FIELDS]
    fields["style"] = asked.style
    if get_config().log_prompts:
        fields["prompt"] = [f"{message.role}: {message.content}" for message in asked.messages]


def note_client_gone() -> None:
    """Write into the line of the current request that nobody was there to read the answer."""
    request.environ[_FIELDS]["status"] = CLIENT_CLOSED_REQUEST


class _Identify:
    """A WSGI application whose requests have an id from the first line of the log to the last."""

    def __init__(self, wsgi_app: Any) -> None:
        self._wsgi_app = wsgi_app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        sent = environ.get("HTTP_X_REQUEST_ID", "")
        made = sent if _SANE_ID.fullmatch(sent) else uuid.uuid4().hex
        environ[_ID], environ[_FIELDS] = made, {}
        # Threads serve one request after the other: nothing may be left of the one before.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=made)
        body: Iterable[bytes] = self._wsgi_app(environ, start_response)
        return body


def _begin() -> None:
    environ, started = request.environ, time.monotonic()
    rule = request.url_rule
    fields = environ[_FIELDS]
    fields["method"] = request.method
    fields["route"] = None if rule is None else rule.rule  # never the path: anyone can write there
    when_over(lambda: _write_line(fields, started))


def _note_answer(response: Response) -> Response:
    fields = request.environ[_FIELDS]
    fields.setdefault("status", response.status_code)  # unless the client is known to be gone
    fields["caller"] = auth.caller()
    response.headers[REQUEST_ID_HEADER] = request.environ[_ID]
    return response


def _write_line(fields: dict[str, Any], started: float) -> None:
    fields["seconds"] = round(time.monotonic() - started, 3)
    logger.info("request", extra={"fields": fields})


def _formatter(config: WebConfig) -> logging.Formatter:
    is_json = config.log_format == "json"
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _take_fields,
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if is_json
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    ends: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if not is_json:  # JSON escapes by itself
        ends.append(_keep_to_the_line)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[*ends, renderer]
    )


def _take_fields(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The fields of a line that has some."""
    event.update(getattr(event["_record"], "fields", {}))
    return event


def _keep_to_the_line(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what ends a line; those of an exception stay, indented."""
    for name, value in event.items():
        if name == "exception":
            lines = (_escape(line) for line in str(value).split("\n"))
            event[name] = "\n".join(f"    {line}" for line in lines)
        elif value is not None and not isinstance(value, bool | int | float):
            event[name] = _escape(str(value))
    return event


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
