"""Reads a request body as a JSON object, whatever a client sends."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from flask import abort, current_app, request


def read_json_object() -> dict[str, Any]:
    """The JSON object of the request's body; aborts with 400, 413 or 415 and the reason."""
    if not request.is_json:
        abort(415, "Send JSON: add the header 'Content-Type: application/json'.")
    body = _read_body(current_app.config["MAX_BODY_BYTES"])
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
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
    stream, length = request.environ["wsgi.input"], request.content_length
    if length is None and not request.environ.get("wsgi.input_terminated"):
        return b""  # nothing was announced: reading would wait for ever
    body = b""
    if length is None or length <= limit:
        wanted = limit + 1 if length is None else length
        while len(body) < wanted and (chunk := stream.read(wanted - len(body))):
            body += chunk
        if len(body) <= limit:
            return body
    abort(413, f"The body is larger than {limit} bytes.")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
