import json
import logging

import pytest
from flask import abort
from werkzeug.exceptions import TooManyRequests

from app import create_app
from serving.errors import (
    DeadlineExceededError,
    DeviceLostError,
    EngineBusyError,
    EngineNotReadyError,
    GenerationError,
)
from tests.app.problems import read_problem
from tests.app.test_errors import BAD_BODIES
from tests.app.v1.error_objects import read_error
from tests.fakes import COMPLETION, FakeEngine, FakeHandle

POSTS = ["/v1/chat/completions", "/v1/completions"]
each_post = pytest.mark.parametrize("path", POSTS)

# A lone surrogate, a wrong type and so on are tried field by field elsewhere: under /v1 some of
# the bodies that /generate refuses are fine.
BROKEN_BODIES = {
    name: BAD_BODIES[name]
    for name in ["empty", "malformed", "no object", "NaN", "30,000 brackets", "5,000 digits",
                 "not UTF-8", "UTF-16"]
}  # fmt: skip


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v1/nope", "/v1/chat", "/v1/models/", "/v1/%ff", "/v1/audio/speech"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_an_error_object(client, path, method):
    error = read_error(client.open(path, method=method), 404)
    assert (error["type"], error["code"]) == ("invalid_request_error", "unknown_url")


@pytest.mark.parametrize("path", ["/v1x", "/v10/models", "/nope", "/x/v1/models"])
def test_a_path_that_only_looks_alike_is_a_problem_document(client, path):
    read_problem(client.get(path), 404)


def test_native_routes_keep_their_problem_documents(client):
    read_problem(client.get("/generate"), 405)
    read_problem(client.post("/generate", json={"prompt": ""}), 422)


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/v1/chat/completions", "GET", {"POST", "OPTIONS"}),
        ("/v1/completions", "DELETE", {"POST", "OPTIONS"}),
        ("/v1/models", "POST", {"GET", "HEAD", "OPTIONS"}),
        ("/v1/models/pocket-verbosity", "DELETE", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_refused_with_the_right_ones(client, path, method, allowed):
    response = client.open(path, method=method)
    assert read_error(response, 405)["code"] == "method_not_supported"
    assert set(response.allow) == allowed


@each_post
def test_a_body_that_is_not_called_json_is_refused(client, path):
    error = read_error(client.post(path, data="{}", content_type="text/plain"), 415)
    assert error["code"] == "unsupported_media_type"


@each_post
def test_a_body_that_is_too_large_is_refused(client, path):
    body = json.dumps({"prompt": "a" * 300_000})
    error = read_error(client.post(path, data=body, content_type="application/json"), 413)
    assert error["code"] == "request_too_large"


@each_post
@pytest.mark.parametrize("body", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
def test_a_broken_body_is_refused_and_is_no_failure_in_the_log(client, path, body, caplog):
    response = client.post(path, data=body, content_type="application/json")
    assert read_error(response, 400)["type"] == "invalid_request_error"
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("path", [*POSTS, "/v1/models", "/v1/nope"])
@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, "invalid_request_error", "invalid_api_key"),
        (403, "invalid_request_error", None),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (503, "server_error", "service_unavailable"),
        (418, "invalid_request_error", None),
        (502, "server_error", None),
    ],
)
def test_whoever_refuses_a_request_before_its_route_does_it_in_this_shape(
    engine, path, status, kind, code
):
    app = create_app(engine)
    app.before_request(lambda: abort(status, "Not now."))
    error = read_error(app.test_client().post(path), status)
    assert error == {"message": "Not now.", "type": kind, "param": None, "code": code}


def test_a_refusal_keeps_its_headers(engine):
    app = create_app(engine)

    @app.before_request
    def refuse():
        raise TooManyRequests(retry_after=7)

    assert app.test_client().get("/v1/models").headers["Retry-After"] == "7"


@each_post
@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (EngineBusyError("full", 7), 503, "service_unavailable"),
        (EngineNotReadyError("the model is being loaded"), 503, "service_unavailable"),
        (DeviceLostError("the device failed"), 503, "service_unavailable"),
        (DeadlineExceededError("not finished within 120 seconds"), 504, "deadline_exceeded"),
        (GenerationError("the model failed on this request"), 500, None),
    ],
)
def test_an_error_of_the_engine_keeps_its_words(engine, client, path, failure, status, code):
    engine.script.append(FakeHandle(failure))
    body = {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}
    response = client.post(path, json=body)
    error = read_error(response, status)
    assert error == {"message": str(failure), "type": "server_error", "param": None, "code": code}
    assert ("Retry-After" in response.headers) == (status == 503)


@each_post
def test_an_unexpected_error_shows_nothing_of_the_inside(path):
    engine = FakeEngine(RuntimeError("/root/secret.py: token=abc"))
    body = {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}
    response = create_app(engine).test_client().post(path, json=body)
    assert "secret" not in read_error(response, 500)["message"]


@each_post
@pytest.mark.parametrize("failure", [GenerationError("it failed"), RuntimeError("secret")])
def test_a_stream_that_fails_ends_with_an_error_object_and_the_mark(engine, client, path, failure):
    engine.script.append(FakeHandle(failure, ["It "]))
    body = {"prompt": "x", "messages": [{"role": "user", "content": "x"}], "stream": True}
    response = client.post(path, json=body)
    events = response.get_data(as_text=True).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    error = json.loads(events[-3].removeprefix("data: "))["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == "server_error"
    assert "secret" not in error["message"]


@each_post
@pytest.mark.parametrize("streams", [False, True])
def test_the_request_after_an_error_is_answered(engine, client, path, streams):
    engine.script.append(FakeHandle(GenerationError("it failed")))
    body = {"prompt": "x", "messages": [{"role": "user", "content": "x"}], "stream": streams}
    client.post(path, json=body).get_data()
    assert COMPLETION.text.split()[-1] in client.post(path, json=body).get_data(as_text=True)
