"""Every error under `/v1` as OpenAI's error object, which its client libraries can read.

{"error": {"message": "n: Must be 1: this server gives one answer to a request.",
"type": "invalid_request_error", "param": "n", "code": null}}
"""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, jsonify

from app.errors import FieldErrors

_INVALID, _SERVER = "invalid_request_error", "server_error"
KINDS: dict[int, tuple[str, str]] = {
    HTTPStatus.UNAUTHORIZED: (_INVALID, "invalid_api_key"),
    HTTPStatus.NOT_FOUND: (_INVALID, "unknown_url"),
    HTTPStatus.METHOD_NOT_ALLOWED: (_INVALID, "method_not_supported"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (_INVALID, "request_too_large"),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (_INVALID, "unsupported_media_type"),
    HTTPStatus.TOO_MANY_REQUESTS: ("rate_limit_error", "rate_limit_exceeded"),
    HTTPStatus.SERVICE_UNAVAILABLE: (_SERVER, "service_unavailable"),
    HTTPStatus.GATEWAY_TIMEOUT: (_SERVER, "deadline_exceeded"),
}
"""Type and code of the statuses that have a code."""


class UnknownModelError(Exception):
    """No model has that id; the message lists those there are."""


def unknown_model(error: UnknownModelError) -> Response:
    """404 with the code by which clients tell it from a wrong address."""
    return _error_object(HTTPStatus.NOT_FOUND, str(error), "model", "model_not_found")


def from_problem(status: int, detail: str, errors: FieldErrors) -> Response:
    """The error object for what native routes report with a problem document.

    422 becomes 400: that is what OpenAI answers, and what its clients look for.
    """
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    _, code = KINDS.get(status, (None, None))
    return _error_object(status, detail, next(iter(errors), None), code)


def _error_object(status: int, message: str, param: str | None, code: str | None) -> Response:
    usual = _INVALID if status < HTTPStatus.INTERNAL_SERVER_ERROR else _SERVER
    kind, _ = KINDS.get(status, (usual, None))
    error = {"message": message, "type": kind, "param": param, "code": code}
    response = jsonify(error=error)
    response.status_code = status
    return response
