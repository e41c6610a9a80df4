"""The error statuses and their two shapes: problem documents, and OpenAI's objects under `/v1`."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from marshmallow import Schema, fields

from app.logs import REQUEST_ID_HEADER

PROBLEM = "application/problem+json"


class ProblemSchema(Schema):
    """What went wrong, as RFC 9457 writes it."""

    type = fields.Constant("about:blank", required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()), required=True)


class OpenAIErrorDetailSchema(Schema):
    """What went wrong, as OpenAI writes it."""

    message = fields.String(required=True)
    type = fields.String(required=True)
    param = fields.String(required=True, allow_none=True)
    code = fields.String(required=True, allow_none=True)


class OpenAIErrorSchema(Schema):
    """An error under `/v1`."""

    error = fields.Nested(OpenAIErrorDetailSchema, required=True)


HEADERS: Mapping[str, Mapping[str, Any]] = {
    REQUEST_ID_HEADER: {
        "description": "The id of the request in the log: the one that was sent, or a new one.",
        "schema": {"type": "string", "examples": ["4f1d2c9a"]},
    },
    "Retry-After": {
        "description": "Seconds after which it is worth another try.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {
        "description": "How to show a key.",
        "schema": {"type": "string", "examples": ["Bearer"]},
    },
    "Allow": {
        "description": "The methods that the address knows.",
        "schema": {"type": "string", "examples": ["GET, HEAD, OPTIONS"]},
    },
}

_HEADERS_OF: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}

_MEANINGS: Mapping[int, tuple[str, str]] = {
    400: ("The body is no JSON object, or the request is broken.", "The body is not UTF-8 text."),
    401: ("No key, or a wrong one.", "Send a key: add the header 'Authorization: Bearer KEY'."),
    404: ("There is nothing at that address.", "There is no such address."),
    405: ("The address does not know that method.", "The method is not allowed."),
    413: ("The body is too large.", "The body is larger than 262144 bytes."),
    415: (
        "The body is not declared as JSON.",
        "Send JSON: add the header 'Content-Type: application/json'.",
    ),
    422: (
        "A field is missing, unknown, of the wrong type or out of range.",
        "style: Unknown style 'loud'. Choose one of: terse, verbose.",
    ),
    429: ("Too many requests of this caller.", "At most 60 requests a minute; try again later."),
    500: ("The server failed.", "The server failed; its log has the cause."),
    503: (
        "The server is loading, full or about to stop.",
        "64 requests are being answered and 64 are waiting already",
    ),
    504: ("The answer was not finished in time.", "not finished within 120 seconds"),
}

_FIELD_EXAMPLE = {"style": ["Unknown style 'loud'. Choose one of: terse, verbose."]}

STATUSES = tuple(_MEANINGS)


def name_of(status: int, *, is_openai: bool) -> str:
    """The name of a status in the document's components."""
    name = HTTPStatus(status).phrase.replace(" ", "").replace("-", "")
    return f"OpenAI{name}" if is_openai else name


def refer_to_headers(*names: str) -> dict[str, Any]:
    """These headers, and those that every answer has."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (REQUEST_ID_HEADER, *names)}


def describe(status: int, *, is_openai: bool) -> dict[str, Any]:
    """A status as a response object, with an example."""
    meaning, detail = _MEANINGS[status]
    if is_openai and status == 400:
        meaning = "The body is no JSON object, or a field is missing, of the wrong type or range."
    schema, media_type = (
        (OpenAIErrorSchema, "application/json") if is_openai else (ProblemSchema, PROBLEM)
    )
    example = _openai_example(status, detail) if is_openai else _problem_example(status, detail)
    return {
        "description": meaning,
        "headers": refer_to_headers(*_HEADERS_OF.get(status, ())),
        "content": {media_type: {"schema": schema, "examples": {"error": {"value": example}}}},
    }


def _problem_example(status: int, detail: str) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": _FIELD_EXAMPLE if status == 422 else {},
    }


def _openai_example(status: int, detail: str) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    kind = "rate_limit_error" if status == 429 else kind
    return {"error": {"message": detail, "type": kind, "param": None, "code": None}}
