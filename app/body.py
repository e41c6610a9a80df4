"""Reads a request body as a JSON object, whatever a client sends."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from flask import abort, request

from app.context import get_config

MAX_DIGITS = 4000
"""Longest whole number that is read; Python itself refuses those of more than 4,300 digits."""


def read_json_object() -> dict[str, Any]:
    """The JSON object of the request's body; aborts with 400, 413 or 415 and the reason."""
    if not request.is_json:
        abort(415, "Send JSON: add the header 'Content-Type: application/json'.")
    body = _read_body(get_config().max_body_bytes)
    try:
        data = json.loads(
            body.decode("utf-8"), parse_constant=_refuse_constant, parse_int=_parse_int
        )
    except UnicodeDecodeError:
        abort(400, "The body is not UTF-8 text.")
    except RecursionError:
        abort(400, "The body is nested too deeply.")
    except ValueError as error:  # malformed, NaN, or a number of thousands of digits
        abort(400, f"The body is not JSON: {error}")
    if not isinstance(data, dict):
        abort(400, 'The body must be a JSON object such as {"prompt": "What is rate limiting?"}.')
    return data


def _read_body(limit: int) -> bytes:
    """The body, read here because Flask's own limit silently cuts chunked bodies short."""
    length = request.content_length
    if length is None and not request.environ.get("wsgi.input_terminated"):
        return b""  # nothing was announced: reading would wait for ever
    body = b""
    if length is None or length <= limit:
        body = _read_up_to(limit + 1 if length is None else length)
    if len(body) > limit or (length or 0) > limit:
        abort(413, f"The body is larger than {limit} bytes.")
    return body


def _read_up_to(wanted: int) -> bytes:
    stream, body = request.environ["wsgi.input"], b""
    try:
        while len(body) < wanted and (chunk := stream.read(wanted - len(body))):
            body += chunk
    except Exception as error:  # each server has exceptions of its own for a broken body
        abort(400, f"The body could not be read: {type(error).__name__}.")
    return body


def _parse_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits; at most {MAX_DIGITS} are accepted")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
