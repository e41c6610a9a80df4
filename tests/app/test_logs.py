import io
import json
import logging
import re
import socket

import pytest
import structlog

from app import create_app, logs
from app.auth.keys import make_key
from app.config import WebConfig
from app.ending import when_over
from tests.fakes import COMPLETION, FakeEngine, FakeHandle

SECRET = "my secret question"
QUESTION = {"prompt": SECRET, "style": "verbose"}


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture(autouse=True)
def _restored():
    """Leaves the loggers of this process as they were."""
    loggers = [logging.getLogger(name) for name in (None, "gunicorn.error", "gunicorn.access")]
    kept = [(log, log.handlers[:], log.propagate, log.level) for log in loggers]
    yield
    for log, handlers, propagates, level in kept:
        log.handlers[:], log.propagate, log.level = handlers, propagates, level


@pytest.fixture
def make_client(stream):
    """A client of an application that logs, as JSON unless told otherwise."""

    def make(*script, **settings):
        config = WebConfig(**{"log_format": "json", **settings})
        logs.configure(config, stream)
        return create_app(FakeEngine(*script), config).test_client()

    return make


@pytest.fixture
def lines(stream):
    """What was logged, read as JSON."""
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_request_is_one_line(make_client, lines):
    make_client().post("/generate", json=QUESTION, buffered=True)
    (line,) = lines()
    assert line.pop("seconds") >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line.pop("timestamp"))
    assert re.fullmatch("[0-9a-f]{32}", line.pop("request_id"))
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "app.logs",
        "method": "POST",
        "route": "/generate",
        "status": 200,
        "style": "verbose",
        "caller": "address 127.0.0.1",
    }


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/v1/models/pocket-verbosity", "/v1/models/<path:model>", 200),
        ("GET", f"/{SECRET}", None, 404),
        ("DELETE", "/generate", None, 405),
        ("GET", f"/health?{SECRET}", "/health", 200),
    ],
)
def test_a_line_names_the_route_and_never_the_address(
    make_client, lines, method, path, route, status
):
    make_client().open(path, method=method, buffered=True)
    (line,) = lines()
    assert (line["method"], line["route"], line["status"]) == (method, route, status)
    assert SECRET not in json.dumps(line)


def test_a_stream_has_its_line_when_it_is_over(make_client, lines):
    answer = make_client().post("/generate", json={"prompt": "a", "stream": True})
    assert lines() == []
    answer.get_data()
    answer.close()
    assert [(line["event"], line["status"]) for line in lines()] == [("request", 200)]


@pytest.mark.parametrize(("streams", "sent"), [(True, 200), (False, 503)])
def test_a_client_that_left_is_logged_with_the_status_that_nginx_has(
    make_client, lines, streams, sent
):
    client = make_client(FakeHandle(COMPLETION, ["It ", None, " caps"]))
    closed = socket.socket()
    closed.close()

    answer = client.post(
        "/generate",
        json={"prompt": "a", "stream": streams},
        environ_overrides={"gunicorn.socket": closed},
        buffered=True,
    )

    assert answer.status_code == sent
    assert [line["status"] for line in lines()] == [499]


def test_a_stream_that_cannot_be_written_any_more_is_logged_as_one_whose_client_left(
    make_client, lines
):
    client = make_client(FakeHandle(COMPLETION, ["It ", "caps "]))
    answer = client.post("/generate", json={"prompt": "a", "stream": True}, buffered=False)

    opening, first = next(answer.response), next(answer.response)
    answer.close()  # as gunicorn does when writing fails

    assert (opening, b"It" in first) == (b": ping\n\n", True)
    assert [line["status"] for line in lines()] == [499]


def test_a_caller_with_a_key_is_named(make_client, lines, tmp_path):
    key, entry = make_key("ann")
    (tmp_path / "keys").write_text(entry, encoding="utf-8")
    client = make_client(api_keys_file=tmp_path / "keys")
    client.get("/metrics", headers={"Authorization": f"Bearer {key}"}, buffered=True)
    client.get("/metrics", headers={"Authorization": "Bearer wrong"}, buffered=True)
    assert [line["caller"] for line in lines()] == ["key ann", "address 127.0.0.1"]
    assert key not in json.dumps(lines())


def test_an_id_that_is_sent_is_kept_and_returned(make_client, lines):
    headers = {"X-Request-ID": "proxy-1.2_3"}
    answer = make_client().get("/health", headers=headers, buffered=True)
    assert answer.headers["X-Request-ID"] == "proxy-1.2_3"
    assert lines()[0]["request_id"] == "proxy-1.2_3"


@pytest.mark.parametrize("sent", ["", "a b", "a" * 65, "ä", "a\tb", "{}", "a/b", "a\x1b[31m"])
def test_an_id_that_is_not_sane_is_replaced(make_client, sent):
    answer = make_client().get("/health", headers={"X-Request-ID": sent}, buffered=True)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


@pytest.mark.parametrize("path", ["/no/such", "/v1/no", "/metrics", "/"])
def test_every_answer_has_an_id(client, path):
    assert client.get(path).headers["X-Request-ID"]


def test_every_line_about_a_request_has_its_id(make_client, lines):
    client = make_client(RuntimeError("broken"))
    answer = client.post("/generate", json={"prompt": "a"}, buffered=True)
    first, last = lines()
    assert answer.status_code == 500
    assert (first["level"], last["event"], last["status"]) == ("error", "request", 500)
    assert "broken" in first["exception"]
    assert {first["request_id"], last["request_id"]} == {answer.headers["X-Request-ID"]}


def test_a_failing_callback_at_the_end_is_logged_and_hides_no_line(make_client, lines):
    client = make_client()
    client.application.before_request(lambda: when_over(lambda: 1 / 0))
    assert client.get("/health", buffered=True).status_code == 200
    assert [line["event"] for line in lines()] == ["a callback failed", "request"]


def test_the_id_of_a_request_does_not_stick_to_the_thread(make_client, lines):
    client = make_client()
    ids = [client.get("/health", buffered=True).headers["X-Request-ID"] for _ in range(2)]
    assert [line["request_id"] for line in lines()] == ids
    assert ids[0] != ids[1]


def test_what_one_request_binds_is_gone_at_the_next(make_client, lines):
    client, bound = make_client(), [{"note": "first"}, {}]
    client.application.before_request(
        lambda: structlog.contextvars.bind_contextvars(**bound.pop(0)) and None
    )
    for _ in range(2):
        client.get("/health", buffered=True)
    assert ["note" in line for line in lines()] == [True, False]


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"prompt": SECRET}),
        ("/generate", {"prompt": SECRET, "stream": True}),
        ("/generate", {"prompt": SECRET, "style": SECRET}),
        ("/generate", {SECRET: SECRET}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": SECRET}]}),
        ("/api/ai-echo/chat", {"message": SECRET}),
    ],
)
def test_what_people_ask_is_not_logged(make_client, stream, log_format, path, body):
    make_client(log_format=log_format).post(path, json=body, buffered=True)
    assert "request" in stream.getvalue()
    assert "secret" not in stream.getvalue()


def test_what_people_ask_is_logged_on_demand(make_client, lines):
    make_client(log_prompts=True).post("/generate", json=QUESTION, buffered=True)
    assert lines()[0]["prompt"] == [f"user: {SECRET}"]


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\x1b[2J"])
def test_nothing_that_is_asked_begins_a_line_of_its_own(make_client, stream, log_format, end):
    client = make_client(log_format=log_format, log_prompts=True)
    client.post("/generate", json={"prompt": f"a{end}2026 forged"}, buffered=True)
    text = stream.getvalue()
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    assert "forged" in text


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_message_and_no_exception_begins_a_line_that_looks_real(make_client, stream, log_format):
    make_client(log_format=log_format)
    log = logging.getLogger("gunicorn.error")
    log.warning("bad request from %s", "a\n2026-01-01 forged")
    try:
        raise ValueError("a\n2026-01-01 forged")
    except ValueError:
        log.exception("it failed")
    assert not [line for line in stream.getvalue().splitlines() if line.startswith("2026-01-01")]


def test_the_console_shows_the_same_facts(make_client, stream):
    make_client(log_format="console").post("/generate", json=QUESTION, buffered=True)
    (line,) = stream.getvalue().splitlines()
    for fact in ("request", "method=POST", "route=/generate", "status=200", "style=verbose"):
        assert fact in line
    assert "\x1b" not in line


def test_a_failed_stream_is_logged_with_its_id(make_client, lines):
    client = make_client(FakeHandle(RuntimeError("broken"), ["A "]), COMPLETION)
    body = {"prompt": "a", "stream": True}
    answer = client.post("/generate", json=body, buffered=True)
    assert {line["request_id"] for line in lines()} == {answer.headers["X-Request-ID"]}
    assert [line["level"] for line in lines()] == ["error", "info"]
