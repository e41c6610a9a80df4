"""An application around fake engines; pytest-flask makes `client` from `app`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder, TestResponse
from werkzeug.wrappers import Request

from app import create_app
from serving.types import Completion, EngineStatus, GenerationRequest, Handle
from tests.fakes import FakeEngine


class Stage:
    """A `serving.types.Engine` that is played by another engine in every test."""

    def __init__(self) -> None:
        self.engine = FakeEngine()

    def submit(self, request: GenerationRequest, *, streams: bool = True) -> Handle:
        return self.engine.submit(request, streams=streams)

    def generate(self, request: GenerationRequest) -> Completion:
        return self.engine.generate(request)

    def status(self) -> EngineStatus:
        return self.engine.status()


Post = Callable[[Any], TestResponse]
PostStream = Callable[..., TestResponse]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="session")
def stage() -> Stage:
    return Stage()


@pytest.fixture(scope="session")
def shared_app(stage: Stage) -> Flask:
    """One application for nearly all tests: making it takes longer than most of them."""
    return create_app(stage)


@pytest.fixture
def app(shared_app: Flask, stage: Stage, engine: FakeEngine) -> Iterator[Flask]:
    """The shared application around this test's engine; a test that changes it makes its own."""
    stage.engine = engine
    yield shared_app
    assert not shared_app.extensions["drain"].is_draining


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
