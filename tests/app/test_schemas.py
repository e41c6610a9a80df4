import json

import pytest

from app import DEFAULTS
from app.schemas import GenerateRequestSchema, GenerateResponseSchema, HealthSchema
from serving.types import GenerationRequest
from tests.app.problems import read_problem
from tests.fakes import COMPLETION, READY

MOST = DEFAULTS["MAX_PROMPT_CHARACTERS"]
NUMBERS = ["temperature", "top_p"]
INTEGERS = ["min_new_tokens", "max_new_tokens", "seed"]
FIELDS = ["prompt", "style", *NUMBERS, *INTEGERS]


def messages_of(response, field):
    """The messages of a refused request in which only this field is wrong."""
    problem = read_problem(response, 422)
    assert list(problem["errors"]) == [field]
    messages = problem["errors"][field]
    assert problem["detail"] == f"{field}: {' '.join(messages)}"
    return messages


def test_a_missing_prompt_is_refused_with_an_example(post):
    (message,) = messages_of(post({}), "prompt")
    assert message.startswith("Missing.")
    assert json.loads(message[message.index("{") : message.rindex("}") + 1])["prompt"]


def test_a_prompt_of_null_is_refused(post):
    assert messages_of(post({"prompt": None}), "prompt") == ["Must be text, not null."]


@pytest.mark.parametrize("prompt", ["", " ", "\n\t", "\u3000\u00a0"])
def test_a_blank_prompt_is_refused(post, prompt):
    assert messages_of(post({"prompt": prompt}), "prompt") == ["Must not be empty."]


@pytest.mark.parametrize("prompt", [5, 1.5, True, ["a"], {"text": "a"}])
def test_a_prompt_that_is_no_text_is_refused(post, prompt):
    assert messages_of(post({"prompt": prompt}), "prompt") == ["Must be text."]


def test_the_longest_prompt_is_accepted(post):
    assert post({"prompt": "a" * MOST}).status_code == 200


def test_a_prompt_too_long_is_refused_with_both_lengths(post):
    (message,) = messages_of(post({"prompt": "a" * (MOST + 1)}), "prompt")
    assert message == f"Has {MOST + 1} characters; at most {MOST} are accepted."


@pytest.mark.parametrize("prompt", ["\\ud800", "a\\udc00", "\\ude00\\ud83d"])
def test_half_of_a_surrogate_pair_is_refused_with_its_place(post, prompt):
    (message,) = messages_of(post(f'{{"prompt": "{prompt}"}}'), "prompt")
    assert f"Character {prompt.index(chr(92))} is half of a surrogate pair" in message


@pytest.mark.parametrize("style", [5, True, ["terse"], {}])
def test_a_style_that_is_no_text_is_refused(post, style):
    (message,) = messages_of(post({"prompt": "a", "style": style}), "style")
    assert message == "Must be text: the name of a style."


def test_an_unknown_field_is_refused_with_the_known_ones(post):
    (message,) = messages_of(post({"prompt": "a", "max_tokens": 5}), "max_tokens")
    assert message == f"Unknown field. Known fields: {', '.join(FIELDS)}."


def test_an_unknown_field_of_half_a_surrogate_pair_can_be_reported(post):
    messages_of(post('{"prompt": "a", "\\ud800": 1}'), "\ud800")


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize("value", ["true", "false", '"0.5"', '"x"', '""', "[]", "[0.5]", "{}"])
def test_only_numbers_are_taken_for_numbers(post, field, value):
    messages = messages_of(post(f'{{"prompt": "a", "{field}": {value}}}'), field)
    assert messages == ["Must be a number."]


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize("value", ["1e999", "-1e999", "9" * 4000], ids=["inf", "-inf", "digits"])
def test_a_number_too_large_for_a_float_is_refused(post, field, value):
    assert messages_of(post(f'{{"prompt": "a", "{field}": {value}}}'), field)


@pytest.mark.parametrize("field", INTEGERS)
@pytest.mark.parametrize(
    "value", ["true", "false", '"5"', '""', "5.0", "5.5", "1e3", "1e999", "[]", "[5]", "{}"]
)
def test_only_integers_are_taken_for_integers(post, field, value):
    (message,) = messages_of(post(f'{{"prompt": "a", "{field}": {value}}}'), field)
    assert "whole number" in message


@pytest.mark.parametrize("value", [-0.001, -1, 2.001, 1000])
def test_a_temperature_out_of_range_is_refused_with_the_range(post, value):
    (message,) = messages_of(post({"prompt": "a", "temperature": value}), "temperature")
    assert message == "Must be from 0 (always the likeliest) to 2."


@pytest.mark.parametrize("value", [0, 0.0, -0.5, 1.001])
def test_a_top_p_out_of_range_is_refused_with_the_range(post, value):
    (message,) = messages_of(post({"prompt": "a", "top_p": value}), "top_p")
    assert message == "Must be above 0 and at most 1."


def test_a_negative_minimum_of_tokens_is_refused(post):
    (message,) = messages_of(post({"prompt": "a", "min_new_tokens": -1}), "min_new_tokens")
    assert message == "Must be 0 or more."


@pytest.mark.parametrize("value", [0, -1])
def test_a_maximum_of_no_tokens_is_refused(post, value):
    (message,) = messages_of(post({"prompt": "a", "max_new_tokens": value}), "max_new_tokens")
    assert message == "Must be 1 or more."


@pytest.mark.parametrize("value", [-1, 2**63, int("9" * 4000)], ids=["negative", "2^63", "huge"])
def test_a_seed_that_is_no_positive_64_bit_number_is_refused(post, value):
    (message,) = messages_of(post(f'{{"prompt": "a", "seed": {value}}}'), "seed")
    assert message == "Must be 0 to 2^63 - 1."


def test_all_mistakes_are_reported_at_once(post):
    body = {"prompt": "", "style": 5, "temperature": 3, "seed": -1, "typo": 1}
    assert set(read_problem(post(body), 422)["errors"]) == set(body)


def test_a_refused_request_never_reaches_the_engine(engine, post):
    post({"prompt": "a", "temperature": 3})
    assert engine.requests == []


@pytest.mark.usefixtures("app")
def test_a_body_becomes_a_frozen_request():
    request = GenerateRequestSchema().load({"prompt": "a", "temperature": 1})
    assert isinstance(request, GenerationRequest)
    assert hash(request)


@pytest.mark.usefixtures("app")
def test_a_whole_temperature_becomes_a_float():
    request = GenerateRequestSchema().load({"prompt": "a", "temperature": 1})
    assert isinstance(request.temperature, float)


def test_an_answer_is_written_with_numbers_as_numbers():
    document = GenerateResponseSchema().dump(COMPLETION)
    kinds = {name: type(value) for name, value in document.items()}
    assert kinds == {
        "response": str,
        "style": str,
        "tokens": int,
        "prompt_tokens": int,
        "latency": float,
        "finish_reason": str,
    }


def test_health_is_written_without_style_tokens():
    # A control token is an inner matter of adapter and engine: callers name styles.
    (terse, _) = HealthSchema().dump(READY)["styles"]
    assert set(terse) == {"name", "description", "preset"}
