"""Reads error objects, the one shape in which `/v1` reports what went wrong."""

from __future__ import annotations

from typing import Any

from werkzeug.test import TestResponse


def read_error(response: TestResponse, status: int) -> dict[str, Any]:
    """The error object of a response that must have this status; fails on any other shape."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.mimetype == "application/json"
    document = response.get_json()
    assert list(document) == ["error"]
    error: dict[str, Any] = document["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["message"]
    assert isinstance(error["type"], str)
    assert all(error[key] is None or isinstance(error[key], str) for key in ("param", "code"))
    return error
