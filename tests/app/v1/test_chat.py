import json

import pytest

from adapters.prompts import Message
from app import create_app
from app.config import WebConfig
from serving.errors import InvalidRequestError
from serving.types import GenerationRequest
from tests.app.v1.error_objects import read_error
from tests.fakes import COMPLETION, FakeHandle

QUESTION = {"role": "user", "content": "What is DNS?"}
NO_SAMPLING = GenerationRequest(messages=(Message("user", "What is DNS?"),))

LIBRECHAT = {
    "model": "pocket-verbosity",
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "user": "64f0",
    "stream": True,
}
OPEN_WEBUI = {
    "model": "pocket-verbosity:terse",
    "stream": True,
    "stream_options": {"include_usage": True},
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "metadata": {"task": "title_generation"},
    "max_completion_tokens": 100,
    "stop": [""],
    "logit_bias": {},
    "reasoning_effort": "none",
    "tools": [{"type": "function", "function": {"name": "clock"}}],
    "tool_choice": "auto",
    "features": {"web_search": False},
}
EVERYTHING_NULL = {
    **dict.fromkeys(["model", "style", "temperature", "top_p", "max_tokens", "seed", "stop"]),
    **dict.fromkeys(["max_completion_tokens", "stream", "stream_options", "n", "logit_bias"]),
    **dict.fromkeys(["logprobs", "top_logprobs", "response_format", "tool_choice", "modalities"]),
    **dict.fromkeys(["presence_penalty", "frequency_penalty", "user"]),
}
NEUTRAL = {
    "n": 1,
    "logprobs": False,
    "top_logprobs": 0,
    "response_format": {"type": "text"},
    "tool_choice": "none",
    "modalities": ["text"],
    "stop": "",
}


def test_an_answer_has_the_keys_of_openai(ask_chat):
    answer = ask_chat().get_json()
    assert answer.pop("id").startswith("chatcmpl-")
    assert isinstance(answer.pop("created"), int)
    message = {"role": "assistant", "content": COMPLETION.text, "refusal": None}
    assert answer == {
        "object": "chat.completion",
        "model": "pocket-verbosity",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 17, "completion_tokens": 13, "total_tokens": 30},
    }


def test_a_stream_is_events_of_chunks_and_a_mark(engine, ask_chat):
    engine.script.append(FakeHandle(COMPLETION, ["It ", "caps."]))
    response = ask_chat(stream=True)
    assert response.mimetype == "text/event-stream"
    *events, end = response.get_data(as_text=True).split("\n\n")
    assert end == ""
    assert events.pop() == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {"usage" in chunk for chunk in chunks} == {False}
    assert [(chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"])
            for chunk in chunks] == [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "It "}, None),
        ({"content": "caps."}, None),
        ({}, "stop"),
    ]  # fmt: skip


def test_a_question_alone_leaves_everything_else_to_the_style(engine, ask_chat):
    ask_chat()
    assert engine.requests == [NO_SAMPLING]


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"temperature": 0}, "temperature", 0.0),
        ({"temperature": 2}, "temperature", 2.0),
        ({"top_p": 0.5}, "top_p", 0.5),
        ({"max_tokens": 7}, "max_new_tokens", 7),
        ({"max_completion_tokens": 8}, "max_new_tokens", 8),
        ({"max_tokens": 7, "max_completion_tokens": 8}, "max_new_tokens", 8),
        ({"max_tokens": 7, "max_completion_tokens": None}, "max_new_tokens", 7),
        ({"seed": 0}, "seed", 0),
        ({"seed": 2**63 - 1}, "seed", 2**63 - 1),
        ({"stop": "END"}, "stop", ("END",)),
        ({"stop": ["END", "\n"]}, "stop", ("END", "\n")),
        ({"stop": ["", "END"]}, "stop", ("END",)),
    ],
)
def test_a_setting_reaches_the_engine(engine, ask_chat, fields, name, value):
    assert ask_chat(**fields).status_code == 200
    assert getattr(engine.requests[0], name) == value


def test_the_smallest_top_p_is_one_that_the_engine_takes(engine, ask_chat):
    ask_chat(top_p=0)
    assert 0 < engine.requests[0].top_p < 0.001


def test_negative_seeds_are_seeds_of_their_own(engine, ask_chat):
    for seed in (-1, -2, -(2**63), -1):
        assert ask_chat(seed=seed).status_code == 200
    seeds = [request.seed for request in engine.requests]
    assert len(set(seeds)) == 3
    assert seeds[0] == seeds[3]
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("body", [NEUTRAL, EVERYTHING_NULL, {"typo": 1, "{0} %s": "<b>"}])
def test_fields_that_ask_for_nothing_change_nothing(engine, ask_chat, body):
    assert ask_chat(**body).status_code == 200
    assert engine.requests == [NO_SAMPLING]


@pytest.mark.parametrize("body", [LIBRECHAT, OPEN_WEBUI], ids=["LibreChat", "Open WebUI"])
def test_what_chat_pages_send_is_answered(engine, ask_chat, body):
    assert ask_chat(**body).get_data(as_text=True).endswith("data: [DONE]\n\n")
    assert engine.requests[0].stop == ()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("n", 2, "one answer"),
        ("n", 0, "one answer"),
        ("n", True, "one answer"),
        ("n", 10**9, "one answer"),
        ("logit_bias", {"50256": -100}, "favour single tokens"),
        ("response_format", {"type": "json_object"}, "format"),
        ("tool_choice", "required", "no tools"),
        ("function_call", {"name": "f"}, "no tools"),
        ("modalities", ["text", "audio"], "nothing else"),
    ],
)
def test_what_cannot_be_given_is_refused_with_the_reason(engine, ask_chat, field, value, reason):
    error = read_error(ask_chat(**{field: value}), 400)
    assert error["param"] == field
    assert reason in error["message"]
    assert engine.requests == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.1),
        ("temperature", -1),
        ("temperature", "1"),
        ("top_p", 1.1),
        ("top_p", -0.1),
        ("max_tokens", 0),
        ("max_tokens", 5.5),
        ("max_tokens", True),
        ("max_completion_tokens", 0),
        ("seed", 2**63),
        ("seed", -(2**63) - 1),
        ("seed", "1"),
        ("stop", 5),
        ("stop", [5]),
        ("stop", ["a"] * 5),
        ("stop", [""] * 5),
        ("stop", "a" * 10_000),
        ("stop", "\ud800"),
        ("stream", "true"),
        ("stream", 1),
        ("stream_options", True),
        ("stream_options.include_usage", "yes"),
        ("messages", []),
        ("messages", None),
        ("messages", {}),
        ("messages", "Hello"),
        ("messages", [QUESTION] * 1_000),
    ],
)
def test_a_value_out_of_range_is_refused_naming_the_field(engine, ask_chat, field, value):
    name, _, inner = field.partition(".")
    error = read_error(ask_chat(**{name: {inner: value} if inner else value}), 400)
    assert error["param"] == field
    assert error["message"].startswith(f"{field}: ")
    assert engine.requests == []


def test_messages_that_are_missing_are_asked_for(client):
    assert read_error(client.post("/v1/chat/completions", json={}), 400)["param"] == "messages"


def test_all_that_is_wrong_is_reported_at_once(ask_chat):
    message = read_error(ask_chat(temperature=3, n=2, seed="x"), 400)["message"]
    assert all(f"{field}: " in message for field in ("temperature", "n", "seed"))


@pytest.mark.parametrize(
    ("engine_says", "client_reads"), [("prompt", "messages"), ("max_new_tokens", "max_tokens")]
)
def test_a_refusal_of_the_engine_names_the_field_of_openai(
    engine, ask_chat, engine_says, client_reads
):
    engine.script.append(InvalidRequestError(engine_says, "Too long."))
    error = read_error(ask_chat(), 400)
    assert (error["param"], error["message"]) == (client_reads, f"{client_reads}: Too long.")


def test_words_are_limited_over_all_messages_together(engine):
    client = create_app(engine, WebConfig(max_prompt_characters=5)).test_client()
    messages = [{"role": role, "content": "abc"} for role in ("user", "assistant", "user")]
    error = read_error(client.post("/v1/chat/completions", json={"messages": messages}), 400)
    assert error["message"] == "messages: Has 9 characters; at most 5 are accepted."
