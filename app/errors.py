"""Every error as one JSON shape (RFC 9457); the only file that knows status codes.

{"type": "about:blank", "title": "Unprocessable Content", "status": 422,
"detail": "style: Unknown style 'loud'. Choose one of: terse, verbose.",
"errors": {"style": ["Unknown style 'loud'. Choose one of: terse, verbose."]}}
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from flask import Flask, Response, jsonify
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
RETRY_WHEN_NOT_READY_SECONDS = 5


def register(app: Flask) -> None:
    """Answer every exception with a problem document, never with HTML."""
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ValidationError, _validation_error)
    app.register_error_handler(ServingError, _serving_error)
    app.register_error_handler(Exception, _unexpected_error)


def problem(status: int, detail: str, errors: FieldErrors | None = None) -> Response:
    """A problem document; `errors` lists messages by field of the request."""
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


def _validation_error(error: ValidationError) -> Response:
    messages = error.normalized_messages()  # type: ignore[no-untyped-call]
    fields = {str(field): _as_list(found) for field, found in messages.items()}
    detail = " ".join(f"{field}: {' '.join(found)}" for field, found in fields.items())
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, fields)


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
