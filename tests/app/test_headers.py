import re

import pytest

from app import create_app
from app.config import WebConfig
from tests.app.problems import read_problem
from tests.fakes import FakeEngine

PAGE_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
ORIGIN = "https://chat.example.com"
ALLOWED = "Access-Control-Allow-Origin"


def client_with(**settings):
    return create_app(FakeEngine(), WebConfig(**settings)).test_client()


def policy(response):
    parts = response.headers["Content-Security-Policy"].split("; ")
    return dict(part.split(" ", 1) for part in parts)


def test_the_page_may_load_only_what_this_server_has(client):
    assert policy(client.get("/")).items() >= PAGE_POLICY.items()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/generate"),
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/static/style.css"),
        ("GET", "/no/such/route"),
        ("DELETE", "/v1/models"),
        ("GET", "/"),
        ("GET", "/docs"),
    ],
)
def test_every_answer_also_an_error_has_the_security_headers(client, method, path):
    answer = client.open(path, method=method)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert policy(answer)["default-src"] == "'none'"
    assert policy(answer)["frame-ancestors"] == "'none'"
    for name in ("X-Content-Type-Options", "Referrer-Policy", "Content-Security-Policy"):
        assert len(answer.headers.getlist(name)) == 1


def test_an_answer_that_is_no_page_may_load_nothing(client):
    assert set(policy(client.get("/health"))) == {"default-src", "frame-ancestors"}


def test_a_stream_has_the_security_headers(client):
    answer = client.post("/generate", json={"prompt": "a", "stream": True})
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_unexpected_error_has_the_security_headers():
    client = create_app(FakeEngine(RuntimeError())).test_client()
    answer = client.post("/generate", json={"prompt": "a"})
    assert answer.status_code == 500
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_no_other_origin_may_read_answers_unless_it_is_named(client):
    assert ALLOWED not in client.get("/health", headers={"Origin": ORIGIN}).headers
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    assert ALLOWED not in client.options("/generate", headers=asked).headers


def test_a_named_origin_may_read_answers_and_when_to_come_back():
    answer = client_with(cors_origins=(ORIGIN,)).get("/health", headers={"Origin": ORIGIN})
    assert answer.headers[ALLOWED] == ORIGIN
    readable = re.split(", *", answer.headers["Access-Control-Expose-Headers"])
    assert {"Retry-After", "X-Request-ID"} <= set(readable)
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://chat.example.com.evil.example",
        "https://chat-example.com",
        "https://evil.example",
        "http://chat.example.com",
        "https://chat.example.com:444",
        "https://chatxexample.com",
        "null",
    ],
)
def test_any_other_origin_stays_out(origin):
    answer = client_with(cors_origins=(ORIGIN,)).get("/health", headers={"Origin": origin})
    assert ALLOWED not in answer.headers


def test_a_browser_learns_that_it_may_send_a_key_before_it_has_sent_one(tmp_path):
    (tmp_path / "keys").write_text(f"ann {'0' * 64}", encoding="utf-8")
    client = client_with(cors_origins=(ORIGIN,), api_keys_file=tmp_path / "keys")
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    answer = client.options("/generate", headers=asked)
    assert answer.status_code == 200
    assert answer.headers[ALLOWED] == ORIGIN
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()


def test_a_refusal_can_be_read_by_a_named_origin(tmp_path):
    (tmp_path / "keys").write_text(f"ann {'0' * 64}", encoding="utf-8")
    client = client_with(cors_origins=(ORIGIN,), api_keys_file=tmp_path / "keys")
    answer = client.post("/generate", json={}, headers={"Origin": ORIGIN})
    assert (answer.status_code, answer.headers[ALLOWED]) == (401, ORIGIN)


@pytest.mark.parametrize("origin", ["chat.example.com", "https://*.example.com", "https://a/b", ""])
def test_what_is_no_origin_stops_the_start(origin):
    with pytest.raises(ValueError, match="cors_origins"):
        client_with(cors_origins=(ORIGIN, origin))


@pytest.mark.parametrize("host", ["evil.example", "laconic.example.evil.example", "192.0.2.1"])
def test_a_name_that_is_not_trusted_is_refused(host):
    client = client_with(trusted_hosts=("laconic.example",))
    read_problem(client.get("/health", headers={"Host": host}), 400)


@pytest.mark.parametrize("host", ["laconic.example", "laconic.example:8000"])
@pytest.mark.parametrize("trusted", ["laconic.example", "Laconic.Example"])
def test_a_trusted_name_is_served(host, trusted):
    client = client_with(trusted_hosts=(trusted,))
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "127.0.0.1"])
def test_this_machine_may_always_check_the_health(host):
    client = client_with(trusted_hosts=("laconic.example",))
    assert client.get("/health", headers={"Host": host}).status_code == 200


def test_any_name_is_served_where_none_is_trusted(client):
    assert client.get("/health", headers={"Host": "any.example"}).status_code == 200
