"""Keys and limits, as OpenAI's own library meets them."""

import hashlib

import httpx2
import openai
import pytest

from app import create_app
from app.config import WebConfig
from tests.app.v1.error_objects import read_error

KEY = "a-key-of-sufficient-length-for-a-test-0123456789"


@pytest.fixture
def guarded(engine, tmp_path):
    """An application that asks for a key."""
    file = tmp_path / "keys"
    file.write_text(f"tester {hashlib.sha256(KEY.encode()).hexdigest()}\n", encoding="utf-8")
    return create_app(engine, WebConfig(api_keys_file=file))


def list_models(app, key):
    with httpx2.Client(transport=httpx2.WSGITransport(app)) as transport:
        return openai.OpenAI(
            api_key=key, base_url="http://localhost/v1", max_retries=0, http_client=transport
        ).models.list()


def test_the_librarys_key_is_the_servers_key(guarded):
    assert len(list_models(guarded, KEY).data) == 3


def test_a_wrong_key_raises_what_the_library_has_for_it(guarded):
    with pytest.raises(openai.AuthenticationError) as caught:
        list_models(guarded, "wrong")
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/models/x", "/v1/chat/completions", "/v1/completions", "/v1/nope"]
)
def test_without_a_key_every_path_is_refused_with_an_error_object(guarded, engine, path):
    response = guarded.test_client().post(path)
    assert read_error(response, 401)["code"] == "invalid_api_key"
    assert "WWW-Authenticate" in response.headers
    assert engine.requests == []


def test_whoever_asks_too_often_gets_what_the_library_has_for_it(engine):
    app = create_app(engine, WebConfig(requests_per_minute=1))
    list_models(app, "any")
    with pytest.raises(openai.RateLimitError) as caught:
        list_models(app, "any")
    assert caught.value.code == "rate_limit_exceeded"
    assert int(caught.value.response.headers["retry-after"]) >= 1
