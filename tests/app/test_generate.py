import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapters.prompts import Message
from serving.types import GenerationRequest
from tests.app.problems import read_problem
from tests.fakes import COMPLETION

KEYS = ["response", "style", "tokens", "prompt_tokens", "latency", "finish_reason"]


def test_an_answer_has_exactly_these_keys_in_this_order(post):
    assert list(post({"prompt": "What is DNS?"}).get_json()) == KEYS


def test_an_answer_is_plain_json_with_status_200(post):
    response = post({"prompt": "What is DNS?"})
    assert (response.status_code, response.mimetype) == (200, "application/json")


def test_an_answer_reports_what_the_engine_measured(engine, post):
    engine.script.append(COMPLETION)
    assert post({"prompt": "What is rate limiting?"}).get_json() == {
        "response": "It caps how many requests a caller may send in a given time.",
        "style": "terse",
        "tokens": 13,
        "prompt_tokens": 17,
        "latency": 0.25,
        "finish_reason": "stop",
    }


def test_latency_is_a_number_of_seconds_to_the_millisecond(engine, post):
    engine.script.append(dataclasses.replace(COMPLETION, seconds=12.34567))
    assert post({"prompt": "What is DNS?"}).get_json()["latency"] == 12.346


def test_an_answer_cut_short_by_the_limit_says_so(engine, post):
    engine.script.append(dataclasses.replace(COMPLETION, finish_reason="length"))
    assert post({"prompt": "What is DNS?"}).get_json()["finish_reason"] == "length"


@pytest.mark.parametrize("text", ["", "naïve 日本語 😀", '<b>"quoted"</b>\n\x00'])
def test_any_text_of_the_model_arrives_unchanged(engine, post, text):
    engine.script.append(dataclasses.replace(COMPLETION, text=text, num_tokens=0))
    assert post({"prompt": "What is DNS?"}).get_json()["response"] == text


def test_a_prompt_alone_leaves_everything_else_to_the_style(engine, post):
    post({"prompt": "What is DNS?"})
    assert engine.requests == [
        GenerationRequest(
            messages=(Message("user", "What is DNS?"),),
            style=None,
            temperature=None,
            top_p=None,
            min_new_tokens=None,
            max_new_tokens=None,
            seed=None,
        )
    ]


@pytest.mark.parametrize("prompt", ["  padded\n", "<STYLE_TERSE> [INST] </s>", "日本語 😀", "a\0b"])
def test_the_prompt_reaches_the_engine_as_it_was_typed(engine, post, prompt):
    post({"prompt": prompt})
    assert engine.requests[0].messages == (Message("user", prompt),)


def test_an_emoji_written_as_a_surrogate_pair_is_text(engine, post):
    post('{"prompt": "\\ud83d\\ude00"}')
    assert engine.requests[0].messages[0].content == "😀"


def test_the_style_of_the_answer_is_the_one_asked_for(post):
    answer = post({"prompt": "What is DNS?", "style": "verbose"}).get_json()
    assert answer["style"] == "verbose"


def test_without_a_style_the_answer_names_the_default_one(post):
    assert post({"prompt": "What is DNS?"}).get_json()["style"] == "terse"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("style", "verbose"),
        ("temperature", 0.7),
        ("temperature", 2),
        ("top_p", 0.5),
        ("top_p", 1),
        ("top_k", 40),
        ("top_k", 2**31 - 1),
        ("min_new_tokens", 64),
        ("max_new_tokens", 1),
        ("seed", 2**63 - 1),
    ],
)
def test_an_override_reaches_the_engine_and_sets_nothing_else(engine, post, field, value):
    post({"prompt": "What is DNS?", field: value})
    plain = GenerationRequest(messages=(Message("user", "What is DNS?"),))
    assert engine.requests == [dataclasses.replace(plain, **{field: value})]


@pytest.mark.parametrize("field", ["temperature", "top_k", "min_new_tokens", "seed"])
def test_zero_is_a_value_and_not_the_absence_of_one(engine, post, field):
    post({"prompt": "What is DNS?", field: 0})
    value = getattr(engine.requests[0], field)
    assert value is not None
    assert value == 0


@pytest.mark.parametrize(
    "field", ["style", "temperature", "top_p", "top_k", "min_new_tokens", "max_new_tokens", "seed"]
)
def test_null_leaves_a_setting_to_the_style(engine, post, field):
    assert post({"prompt": "What is DNS?", field: None}).status_code == 200
    assert getattr(engine.requests[0], field) is None


@pytest.mark.parametrize(
    ("stop", "texts"),
    [
        ("END", ("END",)),
        (["END"], ("END",)),
        (["\n\n", "END", " ", "a" * 64], ("\n\n", "END", " ", "a" * 64)),
        ([], ()),
        (None, ()),
    ],
)
def test_stop_texts_reach_the_engine_as_they_were_typed(engine, post, stop, texts):
    post({"prompt": "What is DNS?", "stop": stop})
    assert engine.requests[0].stop == texts


def test_an_unknown_style_is_refused_with_the_known_ones(post):
    problem = read_problem(post({"prompt": "What is DNS?", "style": "loud"}), 422)
    assert problem["errors"] == {"style": ["Unknown style 'loud'. Choose one of: terse, verbose."]}


@pytest.mark.parametrize("style", ["", "Terse", "terse ", "\ud800"])
def test_a_style_is_matched_exactly(post, style):
    assert list(read_problem(post({"prompt": "x", "style": style}), 422)["errors"]) == ["style"]


def test_simultaneous_requests_get_their_own_answers(app, engine):
    def ask(number):
        style = "verbose" if number % 2 else "terse"
        body = {"prompt": f"Question {number}", "style": style, "seed": number}
        return app.test_client().post("/generate", json=body).get_json()["style"] == style

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(64)))
    asked = {(request.messages[0].content, request.seed) for request in engine.requests}
    assert asked == {(f"Question {number}", number) for number in range(64)}
