"""The real `openai` client, and a plain one, both talking to the application without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openai import OpenAI
from werkzeug.test import TestResponse

Ask = Callable[..., TestResponse]


@pytest.fixture
def openai_client(app: Flask) -> Iterator[OpenAI]:
    """What users of OpenAI's library have, except that nothing is tried twice."""
    transport = httpx2.Client(transport=httpx2.WSGITransport(app))
    with OpenAI(
        api_key="any", base_url="http://localhost/v1", max_retries=0, http_client=transport
    ) as client:
        yield client


@pytest.fixture
def ask_chat(client: FlaskClient) -> Ask:
    """Sends fields to /v1/chat/completions, beside a question unless they hold messages."""

    def send(**fields: Any) -> TestResponse:
        question = {"messages": [{"role": "user", "content": "What is DNS?"}]}
        return client.post("/v1/chat/completions", json={**question, **fields})

    return send


@pytest.fixture
def ask_completion(client: FlaskClient) -> Ask:
    """Sends fields to /v1/completions, beside a question unless they hold a prompt."""

    def send(**fields: Any) -> TestResponse:
        return client.post("/v1/completions", json={"prompt": "What is DNS?", **fields})

    return send
