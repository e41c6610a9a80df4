import dataclasses

import pytest

from adapters.prompts import Message
from app.config import WebConfig
from serving.errors import EngineBusyError, GenerationError, InvalidRequestError
from serving.types import GenerationRequest
from tests.app.events import Event, read_events
from tests.app.problems import read_problem
from tests.fakes import COMPLETION, FakeHandle

ROUTES = ["/api/ai-echo/chat", "/api/ai-echo/stream"]
each_route = pytest.mark.parametrize("route", ROUTES)
MOST = WebConfig().max_prompt_characters
TURN = {"role": "user", "content": "What is DNS?"}
TOTALS = {
    "response": "It caps how many requests a caller may send in a given time.",
    "style": "terse",
    "tokens": 13,
    "latency": 0.25,
    "finish_reason": "stop",
}


# Answers


def test_an_answer_has_exactly_these_keys_in_this_order(client):
    answer = client.post("/api/ai-echo/chat", json={"message": "What is rate limiting?"})
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert list(answer.get_json().items()) == list(TOTALS.items())


def test_a_stream_is_tokens_and_then_the_totals(client, engine):
    engine.script.append(FakeHandle(COMPLETION, ["It caps", " how many"]))
    events = read_events(client.post("/api/ai-echo/stream", json={"message": "a"}))
    assert events == [
        Event("message", {"token": "It caps"}),
        Event("message", {"token": " how many"}),
        Event("message", {"done": True, **TOTALS}),
    ]


def test_no_text_can_end_an_event(client, engine):
    text = '\n\ndata: {"done": true}\n\n"\u2028'
    completion = dataclasses.replace(COMPLETION, text=text)
    engine.script.append(FakeHandle(completion, [text]))
    piece, end = read_events(client.post("/api/ai-echo/stream", json={"message": "a"}))
    assert (piece.data, end.data["response"]) == ({"token": text}, text)


# Requests


@each_route
@pytest.mark.parametrize("field", ["message", "prompt"])
def test_the_words_may_have_either_name(client, engine, route, field):
    assert client.post(route, json={field: " What is DNS?\n"}).status_code == 200
    assert engine.requests == [GenerationRequest(messages=(Message("user", " What is DNS?\n"),))]


@each_route
def test_the_history_comes_before_the_message(client, engine, route):
    history = [TURN, {"role": "assistant", "content": "A phone book."}]
    client.post(route, json={"message": "Who runs it?", "history": history, "style": "verbose"})
    (request,) = engine.requests
    assert request.style == "verbose"
    assert [(turn.role, turn.content) for turn in request.messages] == [
        ("user", "What is DNS?"),
        ("assistant", "A phone book."),
        ("user", "Who runs it?"),
    ]


@each_route
@pytest.mark.parametrize("nothing", [{}, {"history": None}, {"history": []}, {"style": None}])
def test_history_and_style_may_be_left_out(client, engine, route, nothing):
    assert client.post(route, json={"message": "a", **nothing}).status_code == 200
    assert engine.requests == [GenerationRequest(messages=(Message("user", "a"),))]


@each_route
def test_whatever_else_the_page_sends_is_ignored(client, engine, route):
    turn = {**TURN, "timestamp": 5, "id": "x"}
    body = {"message": "a", "session": "s", "temperature": "warm", "history": [turn]}
    assert client.post(route, json=body).status_code == 200
    (request,) = engine.requests
    assert request.temperature is None
    assert request.messages[0] == Message("user", "What is DNS?")


# Refusals


@each_route
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "message"),
        ({"message": "a", "prompt": "b"}, "message"),
        ({"message": " "}, "message"),
        ({"prompt": ""}, "prompt"),
        ({"message": None}, "message"),
        ({"message": 5}, "message"),
        ({"message": ["a"]}, "message"),
        ({"message": "\ud800"}, "message"),
        ({"message": "a" * (MOST + 1)}, "message"),
        ({"message": "a", "style": 5}, "style"),
        ({"message": "a", "style": "loud"}, "style"),
        ({"message": "a", "history": "b"}, "history"),
        ({"message": "a", "history": [TURN] * 64}, "history"),
        ({"message": "a" * MOST, "history": [TURN]}, "history"),
        ({"message": "a", "history": [{**TURN, "role": "robot"}]}, "history[0].role"),
        ({"message": "a", "history": [{"role": "user"}]}, "history[0].content"),
        ({"message": "a", "history": [{**TURN, "content": "\ud800"}]}, "history[0].content"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_with_the_field(client, route, body, field):
    assert list(read_problem(client.post(route, json=body), 422)["errors"]) == [field]


@each_route
def test_the_longest_history_is_accepted(client, route):
    assert client.post(route, json={"message": "a", "history": [TURN] * 63}).status_code == 200


@each_route
def test_a_body_that_is_no_json_is_refused(client, route):
    response = client.post(route, data="{", content_type="application/json")
    read_problem(response, 400)


@each_route
def test_a_refused_request_never_reaches_the_engine(client, engine, route):
    client.post(route, json={"message": ""})
    assert engine.requests == []


@each_route
def test_the_engine_blames_the_field_in_which_the_words_came(client, engine, route):
    engine.script.append(InvalidRequestError("prompt", "It has 9999 tokens."))
    problem = read_problem(client.post(route, json={"message": "a"}), 422)
    assert problem["errors"] == {"message": ["It has 9999 tokens."]}


@each_route
def test_a_busy_engine_says_when_to_come_back(client, engine, route):
    engine.script.append(EngineBusyError("full", retry_after_seconds=7))
    response = client.post(route, json={"message": "a"})
    read_problem(response, 503)
    assert response.headers["Retry-After"] == "7"


# Failures on the way


def test_a_failure_of_the_answer_is_a_problem_document(client, engine):
    engine.script.append(FakeHandle(GenerationError("the model failed")))
    problem = read_problem(client.post("/api/ai-echo/chat", json={"message": "a"}), 500)
    assert problem["detail"] == "the model failed"


def test_a_failure_of_the_stream_is_told_by_the_last_event(client, engine):
    engine.script.append(FakeHandle(GenerationError('it "failed"\n\n'), ["It caps"]))
    piece, last = read_events(client.post("/api/ai-echo/stream", json={"message": "a"}))
    assert piece.data == {"token": "It caps"}
    assert last == Event("message", {"error": 'it "failed"\n\n'})


def test_an_unexpected_failure_shows_nothing_of_the_inside(client, engine):
    engine.script.append(FakeHandle(RuntimeError("/root/secret.py"), ["It caps"]))
    *_, last = read_events(client.post("/api/ai-echo/stream", json={"message": "a"}))
    assert list(last.data) == ["error"]
    assert "secret" not in last.data["error"]
