import logging

import pytest

import serving.errors
from app.errors import problem
from serving.errors import (
    DeadlineExceededError,
    DeviceLostError,
    EngineBusyError,
    EngineNotReadyError,
    GenerationError,
    InvalidRequestError,
    RequestCancelledError,
    ServingError,
)
from tests.app.problems import read_problem

GOOD = {"prompt": "What is DNS?"}

ENGINE_ERRORS = [
    (InvalidRequestError("seed", "Choose another."), 422),
    (EngineBusyError("32 requests are waiting already", retry_after_seconds=7), 503),
    (EngineNotReadyError("the model is being loaded"), 503),
    (DeadlineExceededError("not finished within 120 seconds"), 504),
    (GenerationError("the model failed on this request"), 500),
    (DeviceLostError("the device failed"), 503),
    (RequestCancelledError("the request was cancelled"), 503),
    (ServingError("something else"), 500),
]

BAD_BODIES = {
    "empty": b"",
    "malformed": b"{",
    "no object": b"[]",
    "no prompt": b"{}",
    "blank prompt": b'{"prompt": " "}',
    "null prompt": b'{"prompt": null}',
    "number for a prompt": b'{"prompt": 5}',
    "prompt too long": b'{"prompt": "' + b"a" * 20_000 + b'"}',
    "lone surrogate": b'{"prompt": "\\ud800"}',
    "unknown style": b'{"prompt": "a", "style": "loud"}',
    "lone surrogate as a style": b'{"prompt": "a", "style": "\\ud800"}',
    "unknown field": b'{"prompt": "a", "typo": 1}',
    "braces in an unknown field": b'{"prompt": "a", "{0} %s {x!r}": 1}',
    "markup in an unknown field": b'{"prompt": "a", "<script>": 1}',
    "NaN": b'{"prompt": "a", "top_p": NaN}',
    "infinity": b'{"prompt": "a", "temperature": 1e999}',
    "text for a number": b'{"prompt": "a", "temperature": "1"}',
    "boolean for an integer": b'{"prompt": "a", "seed": true}',
    "fraction for an integer": b'{"prompt": "a", "max_new_tokens": 5.5}',
    "negative seed": b'{"prompt": "a", "seed": -1}',
    "no words": b'{"messages": []}',
    "no list of messages": b'{"messages": {"role": "user", "content": "a"}}',
    "no message": b'{"messages": [null]}',
    "lone surrogate in a message": b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "lone surrogate as a role": b'{"messages": [{"role": "\\ud800", "content": "a"}]}',
    "lone surrogate to stop at": b'{"prompt": "a", "stop": "\\ud800"}',
    "braces in an unknown field of a message": b'{"messages": [{"{0} %s {x!r}": 1}]}',
    "30,000 brackets": b"[" * 30_000,
    "5,000 digits": b'{"prompt": "a", "seed": ' + b"9" * 5_000 + b"}",
    "too large": b'{"prompt": "' + b"a" * 100_000 + b'"}',
    "not UTF-8": b'{"prompt": "\xff"}',
    "UTF-16": '{"prompt": "a"}'.encode("utf-16"),
}
each_bad_body = pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)


def each_name(errors):
    return [type(entry[0]).__name__ for entry in errors]


@each_bad_body
def test_bad_input_gives_a_problem_document_that_blames_the_client(post, body):
    response = post(body)
    assert response.status_code in {400, 413, 422}
    read_problem(response, response.status_code)


@each_bad_body
def test_the_request_after_a_bad_one_is_answered(post, body):
    post(body)
    assert post(GOOD).status_code == 200


@each_bad_body
def test_bad_input_is_no_failure_in_the_log(post, body, caplog):
    post(body)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(("error", "status"), ENGINE_ERRORS, ids=each_name(ENGINE_ERRORS))
def test_an_error_of_the_engine_has_its_status_and_keeps_its_words(engine, post, error, status):
    engine.script.append(error)
    assert str(error) in read_problem(post(GOOD), status)["detail"]


@pytest.mark.parametrize(("error", "status"), ENGINE_ERRORS, ids=each_name(ENGINE_ERRORS))
def test_the_request_after_an_error_of_the_engine_is_answered(engine, post, error, status):
    engine.script.append(error)
    assert post(GOOD).status_code == status
    assert post(GOOD).status_code == 200


def test_every_kind_of_engine_error_is_tried_here():
    kinds = {
        kind
        for kind in vars(serving.errors).values()
        if isinstance(kind, type) and issubclass(kind, ServingError)
    }
    assert {type(error) for error, _ in ENGINE_ERRORS} == kinds


def test_a_request_the_engine_refuses_names_the_field(engine, post):
    engine.script.append(InvalidRequestError("max_new_tokens", "999 is over the limit of 512."))
    found = read_problem(post(GOOD), 422)
    assert found["errors"] == {"max_new_tokens": ["999 is over the limit of 512."]}
    assert found["detail"] == "max_new_tokens: 999 is over the limit of 512."


def test_a_busy_engine_says_when_to_come_back(engine, post):
    engine.script.append(EngineBusyError("full", retry_after_seconds=7))
    assert post(GOOD).headers["Retry-After"] == "7"


def test_an_engine_that_is_not_ready_says_when_to_come_back(engine, post):
    engine.script.append(EngineNotReadyError("the model is being loaded"))
    assert int(post(GOOD).headers["Retry-After"]) >= 1


@pytest.mark.parametrize("error", [DeadlineExceededError("late"), GenerationError("failed")])
def test_an_error_that_waiting_does_not_cure_invites_no_retry(engine, post, error):
    engine.script.append(error)
    assert "Retry-After" not in post(GOOD).headers


def test_a_failed_generation_is_logged_with_its_cause(engine, post, caplog):
    engine.script.append(GenerationError("the model failed on this request"))
    post(GOOD)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is GenerationError


def test_an_unexpected_error_shows_nothing_of_the_inside(engine, post):
    engine.script.append(RuntimeError("/root/secret.py: token=abc"))
    response = post(GOOD)
    found = read_problem(response, 500)
    assert found["detail"] == "The server failed; its log has the cause."
    assert "secret" not in response.get_data(as_text=True)


def test_an_unexpected_error_is_logged_with_its_cause(engine, post, caplog):
    engine.script.append(RuntimeError("the real cause"))
    post(GOOD)
    (record,) = caplog.records
    assert str(record.exc_info[1]) == "the real cause"


@pytest.mark.parametrize("error", [KeyError("x"), AssertionError(), MemoryError(), TimeoutError()])
def test_the_request_after_an_unexpected_error_is_answered(engine, post, error):
    engine.script.append(error)
    read_problem(post(GOOD), 500)
    assert post(GOOD).status_code == 200


@pytest.mark.parametrize("path", ["/nope", "/generate/", "/Health", "/static/x", "/%ff"])
def test_an_unknown_path_is_a_problem_document(client, path):
    read_problem(client.get(path), 404)


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/generate", "GET", {"POST", "OPTIONS"}),
        ("/generate", "PUT", {"POST", "OPTIONS"}),
        ("/generate", "BREW", {"POST", "OPTIONS"}),
        ("/health", "POST", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_refused_with_the_right_ones(client, path, method, allowed):
    response = client.open(path, method=method)
    read_problem(response, 405)
    assert set(response.allow) == allowed


def test_a_browser_gets_json_as_well(client):
    read_problem(client.get("/nope", headers={"Accept": "text/html"}), 404)


def test_a_request_to_switch_protocols_is_a_problem_document(client):
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    read_problem(client.post("/generate", json=GOOD, headers=upgrade), 400)


@pytest.mark.usefixtures("app")
def test_a_problem_without_a_field_has_an_empty_object_of_errors():
    assert problem(400, "Bad.").get_json()["errors"] == {}


def test_a_problem_document_announces_its_true_length(post):
    response = post("{")
    assert response.content_length == len(response.data)


def test_a_mistake_inside_a_list_is_reported_with_its_place(post):
    good, bad = {"role": "user", "content": "a"}, {"role": "robot", "text": "a"}
    errors = read_problem(post({"messages": [good, bad, good]}), 422)["errors"]
    assert set(errors) == {"messages[1].role", "messages[1].content", "messages[1].text"}


def test_thousands_of_mistakes_do_not_make_a_document_of_thousands_of_lines(post):
    body = {"prompt": "a"} | {f"typo{number}": 1 for number in range(10_000)}
    response = post(body)
    problem = read_problem(response, 422)
    assert len(problem["errors"]) == 20
    assert problem["detail"].endswith(" And 9980 more.")
    assert len(response.data) < 20_000
