"""`logprobs`, `top_logprobs` and `echo`: what is asked of the engine, and what clients get."""

import dataclasses

import pytest

from app.v1.scores import score_text
from serving.types import Completion, TokenLogprob
from tests.app.document import DESCRIBED, problems_of
from tests.app.v1.error_objects import read_error
from tests.fakes import COMPLETION, FakeHandle


def token(text, logprob, *top, raw=None):
    raw = text.encode() if raw is None else raw
    return TokenLogprob(7, text, raw, logprob, tuple(token(*other) for other in top))


QUESTION = "What is DNS?"
WORDS = (
    token("What", -3.0, ("How", -1.0)),
    token(" is", -0.5, (" is", -0.5)),
    token(" DNS?", -2.0),
)
ANSWER = (token(" Na", -0.25, (" Na", -0.25), (" It", -1.5)), token("mes.", -0.125))
SCORED = dataclasses.replace(
    COMPLETION, text="Names.", num_tokens=2, logprobs=ANSWER, prompt_logprobs=WORDS
)
NO_ECHO = dataclasses.replace(SCORED, prompt_logprobs=())
ONLY_ECHO = dataclasses.replace(SCORED, text="", num_tokens=0, logprobs=(), finish_reason="length")


def scores_of(response):
    assert response.status_code == 200, response.get_json()
    (choice,) = response.get_json()["choices"]
    return choice["logprobs"]


# What is asked of the engine


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": None}, 0),
        ({"logprobs": True, "top_logprobs": 0}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
        ({"logprobs": False, "top_logprobs": 0}, None),
    ],
)
def test_a_chat_asks_for_so_many_of_the_likeliest_tokens(engine, ask_chat, fields, count):
    assert ask_chat(**fields).status_code == 200
    assert engine.requests[0].logprobs == count
    assert not engine.requests[0].prompt_logprobs


@pytest.mark.parametrize(
    ("fields", "count", "scores_prompt", "most"),
    [
        ({"logprobs": 0}, 0, False, None),
        ({"logprobs": 20}, 20, False, None),
        ({"logprobs": 1, "echo": False}, 1, False, None),
        ({"logprobs": 1, "echo": True, "max_tokens": 1}, 1, True, 1),
        ({"logprobs": 0, "echo": True, "max_tokens": 0}, 0, True, 0),
        ({"echo": True}, None, False, None),
        ({"echo": True, "logprobs": False}, None, False, None),
    ],
)
def test_a_completion_asks_for_scores_of_the_answer_and_of_an_echo(
    engine, ask_completion, fields, count, scores_prompt, most
):
    assert ask_completion(**fields).status_code == 200
    (asked,) = engine.requests
    assert (asked.logprobs, asked.prompt_logprobs) == (count, scores_prompt)
    assert asked.max_new_tokens == most


@pytest.mark.parametrize(
    ("fields", "param", "reason"),
    [
        ({"logprobs": 5}, "logprobs", "true or false"),
        ({"logprobs": "yes"}, "logprobs", "true or false"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "from 0 to 20"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs", "from 0 to 20"),
        ({"logprobs": True, "top_logprobs": True}, "top_logprobs", "whole number"),
        ({"top_logprobs": 5}, "top_logprobs", "Needs 'logprobs'"),
        ({"logprobs": False, "top_logprobs": 5}, "top_logprobs", "Needs 'logprobs'"),
        ({"logprobs": True, "stream": True}, "logprobs", "'logprobs' or 'stream'"),
    ],
)
def test_a_chat_that_asks_for_what_cannot_be_is_refused(engine, ask_chat, fields, param, reason):
    error = read_error(ask_chat(**fields), 400)
    assert error["param"] == param
    assert reason in error["message"]
    assert engine.requests == []


@pytest.mark.parametrize(
    ("fields", "param", "reason"),
    [
        ({"logprobs": 21}, "logprobs", "from 0 to 20"),
        ({"logprobs": -1}, "logprobs", "from 0 to 20"),
        ({"logprobs": 10**9}, "logprobs", "from 0 to 20"),
        ({"logprobs": True}, "logprobs", "from 0 to 20"),
        ({"logprobs": 1.5}, "logprobs", "from 0 to 20"),
        ({"logprobs": "1"}, "logprobs", "from 0 to 20"),
        ({"logprobs": 0, "stream": True}, "logprobs", "'logprobs' or 'stream'"),
        ({"echo": 1}, "echo", "true or false"),
        ({"max_tokens": -1}, "max_tokens", "0 or more"),
        ({"max_tokens": 0}, "max_tokens", "'echo' and 'logprobs'"),
        ({"max_tokens": 0, "echo": True}, "max_tokens", "'echo' and 'logprobs'"),
        ({"max_tokens": 0, "logprobs": 1}, "max_tokens", "'echo' and 'logprobs'"),
    ],
)
def test_a_completion_that_asks_for_what_cannot_be_is_refused(
    engine, ask_completion, fields, param, reason
):
    error = read_error(ask_completion(**fields), 400)
    assert error["param"] == param
    assert reason in error["message"]
    assert engine.requests == []


def test_all_that_is_wrong_with_the_scores_is_reported_at_once(ask_completion):
    message = read_error(ask_completion(logprobs=1, stream=True, max_tokens=0), 400)["message"]
    assert all(f"{field}: " in message for field in ("logprobs", "max_tokens"))


# What clients get


def test_a_chat_is_told_every_token_with_the_likeliest_ones(engine, ask_chat):
    engine.script.append(NO_ECHO)

    assert scores_of(ask_chat(logprobs=True, top_logprobs=2)) == {
        "content": [
            {
                "token": " Na",
                "logprob": -0.25,
                "bytes": [32, 78, 97],
                "top_logprobs": [
                    {"token": " Na", "logprob": -0.25, "bytes": [32, 78, 97]},
                    {"token": " It", "logprob": -1.5, "bytes": [32, 73, 116]},
                ],
            },
            {"token": "mes.", "logprob": -0.125, "bytes": [109, 101, 115, 46], "top_logprobs": []},
        ],
        "refusal": None,
    }


def test_a_completion_is_told_its_tokens_side_by_side(engine, ask_completion):
    engine.script.append(NO_ECHO)

    response = ask_completion(logprobs=2)

    assert response.get_json()["choices"][0]["text"] == "Names."
    assert scores_of(response) == {
        "tokens": [" Na", "mes."],
        "token_logprobs": [-0.25, -0.125],
        "top_logprobs": [{" Na": -0.25, " It": -1.5}, {"mes.": -0.125}],
        "text_offset": [0, 2],
    }


def test_an_echo_is_told_with_its_tokens_the_first_of_which_follows_nothing(engine, ask_completion):
    engine.script.append(SCORED)

    response = ask_completion(logprobs=1, echo=True, max_tokens=2)

    (choice,) = response.get_json()["choices"]
    assert choice["text"] == "What is DNS?Names."
    assert choice["logprobs"] == {
        "tokens": ["What", " is", " DNS?", " Na", "mes."],
        "token_logprobs": [None, -0.5, -2.0, -0.25, -0.125],
        "top_logprobs": [
            None, {" is": -0.5}, {" DNS?": -2.0}, {" Na": -0.25, " It": -1.5}, {"mes.": -0.125},
        ],
        "text_offset": [0, 4, 7, 12, 14],
    }  # fmt: skip


def test_a_prompt_is_scored_without_an_answer(engine, ask_completion):
    engine.script.append(ONLY_ECHO)

    response = ask_completion(logprobs=0, echo=True, max_tokens=0)

    (choice,) = response.get_json()["choices"]
    assert (choice["text"], choice["finish_reason"]) == (QUESTION, "length")
    assert choice["logprobs"]["token_logprobs"] == [None, -0.5, -2.0]
    assert response.get_json()["usage"]["completion_tokens"] == 0


@pytest.mark.parametrize("prompt", [QUESTION, [QUESTION], "  spaces around \n"])
def test_an_echo_is_the_prompt_as_it_was_written(ask_completion, prompt):
    (choice,) = ask_completion(prompt=prompt, echo=True).get_json()["choices"]
    words = prompt if isinstance(prompt, str) else prompt[0]
    assert choice["text"] == words + COMPLETION.text
    assert choice["logprobs"] is None


def test_a_streamed_echo_begins_with_the_prompt(engine, ask_completion):
    engine.script.append(FakeHandle(COMPLETION, ["It ", "caps."]))
    words = ask_completion(echo=True, stream=True).get_data(as_text=True)
    texts = [part.partition('"')[0] for part in words.split('"text": "')[1:]]
    assert texts == [QUESTION, "It ", "caps.", ""]


def test_nobody_is_told_scores_who_did_not_ask(engine, ask_chat, ask_completion):
    engine.script += [SCORED, SCORED]
    assert scores_of(ask_chat()) is None
    assert scores_of(ask_completion()) is None


def test_what_is_all_but_impossible_has_a_number_that_json_knows(engine, ask_chat, ask_completion):
    never = token("!", float("-inf"), ("?", float("-inf")))
    engine.script += [dataclasses.replace(COMPLETION, logprobs=(never,))] * 2
    (found,) = scores_of(ask_chat(logprobs=True, top_logprobs=1))["content"]
    assert (found["logprob"], found["top_logprobs"][0]["logprob"]) == (-9999.0, -9999.0)
    found = scores_of(ask_completion(logprobs=1))
    assert found["token_logprobs"] == [-9999.0]
    assert found["top_logprobs"] == [{"!": -9999.0, "?": -9999.0}]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 2}),
        ("/v1/completions", {"logprobs": 2, "echo": True}),
    ],
)
def test_scores_fit_the_document(engine, ask_chat, ask_completion, path, fields):
    engine.script.append(SCORED)
    ask = ask_chat if "chat" in path else ask_completion
    described = DESCRIBED[path, "post"]["responses"]["200"]["content"]["application/json"]
    assert problems_of(ask(**fields).get_json(), described["schema"]) == []


# Where tokens stand in a text


def offsets(tokens, text):
    completion = Completion(text, "terse", 1, len(tokens), "stop", 0.1, 0.1, logprobs=tuple(tokens))
    return score_text(completion, "").text_offset


def test_a_space_that_only_the_tokenizer_sees_does_not_count():
    echoed = dataclasses.replace(
        ONLY_ECHO, prompt_logprobs=(token(" What", -1.0), token(" is", -1.0))
    )
    assert score_text(echoed, "What is").text_offset == [0, 4]


def test_a_space_that_the_caller_wrote_does():
    echoed = dataclasses.replace(
        ONLY_ECHO, prompt_logprobs=(token("  What", -1.0), token(" is", -1.0))
    )
    assert score_text(echoed, "  What is").text_offset == [0, 6]


def test_a_part_of_a_character_begins_where_the_character_does():
    parts = [token("bytes", -1.0, raw=bytes([byte])) for byte in "☠".encode()]
    assert offsets([token("a", -1.0), *parts, token("b", -1.0)], "a☠b") == [0, 1, 1, 1, 2]


def test_what_was_cut_off_stands_at_the_end():
    tokens = [token("\n", -1.0), token(" One.", -1.0), token(" STOP", -1.0), token("!", -1.0)]
    assert offsets(tokens, "One.") == [0, 0, 4, 4]


def test_of_tokens_that_read_alike_the_likeliest_is_named():
    text = score_text(
        dataclasses.replace(NO_ECHO, logprobs=(token("a", -2.0, ("a", -0.5), ("b", -1.0)),)), ""
    )
    assert text.top_logprobs == [{"a": -0.5, "b": -1.0}]
