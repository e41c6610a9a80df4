"""Reads problem documents, the one shape in which the server reports what went wrong."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from werkzeug.test import TestResponse

KEYS = {"type", "title", "status", "detail", "errors"}


def read_problem(response: TestResponse, status: int) -> dict[str, Any]:
    """The problem document of a response that must have this status; fails on any other shape."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.mimetype == "application/problem+json"
    document = response.get_json()
    assert set(document) == KEYS
    assert document["type"] == "about:blank"
    assert document["title"] == HTTPStatus(status).phrase
    assert document["status"] == status
    assert document["detail"]
    assert all(isinstance(found, list) and found for found in document["errors"].values())
    return document
