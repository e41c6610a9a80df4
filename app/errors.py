"""Every error as one JSON shape (RFC 9457); the only file that knows status codes.

{"type": "about:blank", "title": "Unprocessable Content", "status": 422,
"detail": "style: Unknown style 'loud'. Choose one of: terse, verbose.",
"errors": {"style": ["Unknown style 'loud'. Choose one of: terse, verbose."]}}
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, jsonify, request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from serving.errors import (
    DeadlineExceededError,
    DeviceLostError,
    EngineBusyError,
    EngineNotReadyError,
    InvalidRequestError,
    RequestCancelledError,
    ServingError,
)

logger = logging.getLogger(__name__)

FieldErrors = Mapping[str, list[str]]
Shape = Callable[[int, str, FieldErrors], Response]
"""Makes the response of a status, what is wrong, and the same by field."""
RETRY_WHEN_NOT_READY_SECONDS = 5
MOST_FIELDS_REPORTED = 20
"""A body can hold thousands of mistakes; a document about all of them would be larger still."""


def register(app: Flask) -> None:
    """Answer every exception with a problem document, never with HTML."""
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ValidationError, _validation_error)
    app.register_error_handler(ServingError, _serving_error)
    app.register_error_handler(Exception, _unexpected_error)


def use_shape(app: Flask, prefix: str, shape: Shape) -> None:
    """Answer errors of every path under `prefix`, known or not, in another shape than here."""
    app.extensions.setdefault("error_shapes", {})[prefix] = shape


def problem(status: int, detail: str, errors: FieldErrors | None = None) -> Response:
    """A problem document, or the path's own shape; `errors` lists messages by field."""
    for prefix, shape in current_app.extensions.get("error_shapes", {}).items():
        if f"{request.path}/".startswith(f"{prefix}/"):
            response: Response = shape(status, detail, errors or {})
            return response
    response = jsonify(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=dict(errors or {}),
    )
    response.status_code = status
    response.mimetype = "application/problem+json"
    return response


def _http_error(error: HTTPException) -> Response:
    code = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    response = problem(code, error.description or HTTPStatus(code).phrase)
    for name, value in error.get_headers():
        if name not in {"Content-Type", "Content-Length"}:
            response.headers[name] = value
    return response


def response_for(error: Exception) -> Response:
    """The answer to a failure, for a stream that can no longer become it."""
    return _serving_error(error) if isinstance(error, ServingError) else _unexpected_error(error)


def _validation_error(error: ValidationError) -> Response:
    messages = error.normalized_messages()  # type: ignore[no-untyped-call]
    found = _by_field(messages)
    fields = dict(itertools.islice(found, MOST_FIELDS_REPORTED))
    detail = " ".join(f"{field}: {' '.join(reasons)}" for field, reasons in fields.items())
    if num_more := sum(1 for _ in found):
        detail += f" And {num_more} more."
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, fields)


def _by_field(messages: Mapping[str | int, Any], path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Messages by the path of their field, such as `messages[1].role`."""
    for name, found in messages.items():
        inner = f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}" if path else name
        inner = inner.removesuffix("._schema")  # marshmallow's name for an object as a whole
        if isinstance(found, Mapping):
            yield from _by_field(found, inner)
        else:
            yield inner, _as_list(found)


def _as_list(messages: object) -> list[str]:
    return [str(message) for message in messages] if isinstance(messages, list) else [str(messages)]


def _serving_error(error: ServingError) -> Response:
    message = str(error)
    match error:
        case InvalidRequestError():
            detail = f"{error.field}: {message}"
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, {error.field: [message]})
        case EngineBusyError():
            response = problem(HTTPStatus.SERVICE_UNAVAILABLE, message)
            response.headers["Retry-After"] = str(error.retry_after_seconds)
            return response
        case EngineNotReadyError() | DeviceLostError() | RequestCancelledError():
            response = problem(HTTPStatus.SERVICE_UNAVAILABLE, message)
            response.headers["Retry-After"] = str(RETRY_WHEN_NOT_READY_SECONDS)
            return response
        case DeadlineExceededError():
            return problem(HTTPStatus.GATEWAY_TIMEOUT, message)
    logger.error("generation failed", exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, message)


def _unexpected_error(error: Exception) -> Response:
    logger.exception("unexpected error", exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed; its log has the cause.")
