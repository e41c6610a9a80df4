import json

import pytest

from adapters.prompts import Message
from app import create_app
from app.config import WebConfig
from serving.errors import InvalidRequestError
from serving.types import GenerationRequest
from tests.app.v1.error_objects import read_error
from tests.fakes import COMPLETION, FakeHandle


def test_an_answer_has_the_keys_of_openai(ask_completion):
    answer = ask_completion().get_json()
    assert answer.pop("id").startswith("cmpl-")
    assert isinstance(answer.pop("created"), int)
    choice = {"index": 0, "text": COMPLETION.text, "logprobs": None, "finish_reason": "stop"}
    assert answer == {
        "object": "text_completion",
        "model": "pocket-verbosity",
        "choices": [choice],
        "usage": {"prompt_tokens": 17, "completion_tokens": 13, "total_tokens": 30},
    }


def test_a_stream_is_events_of_chunks_and_a_mark(engine, ask_completion):
    engine.script.append(FakeHandle(COMPLETION, ["It ", "caps."]))
    response = ask_completion(stream=True, stream_options={"include_usage": True})
    events = response.get_data(as_text=True).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    data = [event.removeprefix("data: ") for event in events[:-2] if event.startswith("data: ")]
    *chunks, last = [json.loads(text) for text in data]
    assert {chunk["object"] for chunk in (*chunks, last)} == {"text_completion"}
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["It ", "caps.", ""]
    assert [chunk["usage"] for chunk in chunks] == [None] * 3
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 30)


@pytest.mark.parametrize("prompt", ["What is DNS?", ["What is DNS?"]])
def test_the_prompt_is_asked_as_a_users_question(engine, ask_completion, prompt):
    ask_completion(prompt=prompt)
    assert engine.requests == [GenerationRequest(messages=(Message("user", "What is DNS?"),))]


def test_settings_reach_the_engine(engine, ask_completion):
    ask_completion(temperature=0, top_p=0.5, max_tokens=5, seed=1, stop="\n", style="verbose")
    assert engine.requests == [
        GenerationRequest(
            messages=(Message("user", "What is DNS?"),),
            style="verbose",
            temperature=0.0,
            top_p=0.5,
            max_new_tokens=5,
            seed=1,
            stop=("\n",),
        )
    ]


@pytest.mark.parametrize(
    "neutral",
    [
        {"logprobs": None, "echo": None, "best_of": None, "suffix": None, "n": None},
        {"logprobs": False, "echo": False, "best_of": 1, "suffix": "", "n": 1},
    ],
)
def test_fields_that_ask_for_nothing_change_nothing(engine, ask_completion, neutral):
    assert ask_completion(**neutral).status_code == 200
    assert engine.requests == [GenerationRequest(messages=(Message("user", "What is DNS?"),))]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("best_of", 5, "one answer"),
        ("n", 2, "one answer"),
        ("suffix", "The end.", "towards a given end"),
    ],
)
def test_what_cannot_be_given_is_refused_with_the_reason(
    engine, ask_completion, field, value, reason
):
    error = read_error(ask_completion(**{field: value}), 400)
    assert error["param"] == field
    assert reason in error["message"]
    assert engine.requests == []


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (["One?", "Two?"], "one prompt, not 2"),
        (["?"] * 10_000, "one prompt, not 10000"),
        ([], "one prompt, not 0"),
        ([1, 2, 3], "token ids"),
        ([[1, 2, 3]], "token ids"),
        (5, "Must be text"),
        ({}, "Must be text"),
        (None, "null"),
        ("", "empty"),
        ([" \n"], "empty"),
        ("\ud800", "surrogate"),
        ("a" * 20_000, "characters"),
    ],
)
def test_a_prompt_that_cannot_be_answered_is_refused(engine, ask_completion, prompt, reason):
    error = read_error(ask_completion(prompt=prompt), 400)
    assert error["param"] == "prompt"
    assert reason in error["message"]
    assert engine.requests == []


def test_a_prompt_that_is_missing_is_asked_for(client):
    assert read_error(client.post("/v1/completions", json={}), 400)["param"] == "prompt"


def test_a_setting_for_the_longest_prompt_is_obeyed(engine):
    client = create_app(engine, WebConfig(max_prompt_characters=3)).test_client()
    error = read_error(client.post("/v1/completions", json={"prompt": "four"}), 400)
    assert error["message"] == "prompt: Has 4 characters; at most 3 are accepted."


def test_a_refusal_of_the_engine_names_the_prompt(engine, ask_completion):
    engine.script.append(InvalidRequestError("prompt", "Shorten it."))
    assert read_error(ask_completion(), 400)["param"] == "prompt"
