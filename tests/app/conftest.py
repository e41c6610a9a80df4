"""An application around a fake engine; pytest-flask makes `client` from `app`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder, TestResponse
from werkzeug.wrappers import Request

from app import create_app
from tests.fakes import FakeEngine

Post = Callable[[Any], TestResponse]
PostStream = Callable[..., TestResponse]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def app(engine: FakeEngine) -> Flask:
    return create_app(engine)


@pytest.fixture
def post(client: FlaskClient) -> Post:
    """Sends text or bytes as they are, anything else as JSON, to /generate."""

    def send(body: Any) -> TestResponse:
        data = body if isinstance(body, str | bytes) else json.dumps(body)
        return client.post("/generate", data=data, content_type="application/json")

    return send


@pytest.fixture
def post_stream(client: FlaskClient) -> PostStream:
    """Sends a body that no Content-Length announces, as servers hand on a chunked one."""

    def send(stream: Any, **environ: Any) -> TestResponse:
        base = EnvironBuilder(
            path="/generate", method="POST", content_type="application/json"
        ).get_environ()
        base.pop("CONTENT_LENGTH", None)
        stream = io.BytesIO(stream) if isinstance(stream, bytes) else stream
        chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
        # A ready-made request: from anything else the client would measure the stream first.
        return client.open(Request({**base, **chunked, "wsgi.input": stream, **environ}))

    return send
