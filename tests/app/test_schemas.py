import json

import pytest

from app.config import WebConfig
from app.schemas import GenerateRequestSchema, GenerateResponseSchema, HealthSchema
from serving.types import GenerationRequest
from tests.app.problems import read_problem
from tests.fakes import COMPLETION, READY

MOST = WebConfig().max_prompt_characters
NUMBERS = ["temperature", "top_p"]
INTEGERS = ["top_k", "min_new_tokens", "max_new_tokens", "seed"]
FIELDS = ["prompt", "messages", "style", *NUMBERS, *INTEGERS, "stop", "stream"]


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
    "value", ["true", "false", '"5"', '"5.0"', '""', "5.5", "1e-3", "1e999", "[]", "[5]", "{}"]
)
def test_only_integers_are_taken_for_integers(post, field, value):
    (message,) = messages_of(post(f'{{"prompt": "a", "{field}": {value}}}'), field)
    assert "whole number" in message


@pytest.mark.parametrize("field", INTEGERS)
@pytest.mark.parametrize(("value", "meant"), [("5.0", 5), ("1e3", 1000), ("1.5e1", 15)])
def test_an_integer_may_be_written_with_a_point_or_an_exponent(post, engine, field, value, meant):
    assert post(f'{{"prompt": "a", "{field}": {value}}}').status_code == 200
    asked = getattr(engine.requests[0], field)
    assert (asked, type(asked)) == (meant, int)


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


@pytest.mark.parametrize("value", [-1, 2**31, int("9" * 4000)], ids=["negative", "2^31", "huge"])
def test_a_top_k_that_no_device_can_hold_is_refused(post, value):
    (message,) = messages_of(post(f'{{"prompt": "a", "top_k": {value}}}'), "top_k")
    assert message == "Must be 0 (no limit) to 2^31 - 1."


def test_a_minimum_of_tokens_over_the_maximum_is_refused(post):
    body = {"prompt": "a", "min_new_tokens": 9, "max_new_tokens": 8}
    assert messages_of(post(body), "min_new_tokens") == ["Is over max_new_tokens (8)."]


@pytest.mark.parametrize("value", ["on", "true", "", 1, 0, [], {}])
def test_only_true_and_false_are_taken_for_either(post, value):
    assert messages_of(post({"prompt": "a", "stream": value}), "stream") == [
        "Must be true or false."
    ]


@pytest.mark.parametrize("value", [5, True, {}, {"a": "b"}, [5], ["a", None], [["a"]]])
def test_stop_texts_that_are_no_text_are_refused(post, value):
    (message,) = messages_of(post({"prompt": "a", "stop": value}), "stop")
    assert message == "Must be a text or a list of texts."


@pytest.mark.parametrize("value", ["", [""], ["a", ""], "a" * 65, ["a", "a" * 65]])
def test_stop_texts_that_are_empty_or_too_long_are_refused_with_the_range(post, value):
    (message,) = messages_of(post({"prompt": "a", "stop": value}), "stop")
    assert message.endswith("characters; 1 to 64 are accepted.")


def test_too_many_stop_texts_are_refused_with_both_numbers(post):
    (message,) = messages_of(post({"prompt": "a", "stop": list("abcde")}), "stop")
    assert message == "Has 5 texts; at most 4 are accepted."


@pytest.mark.parametrize("stop", ['"\\ud800"', '["a", "\\ud800"]'])
def test_half_of_a_surrogate_pair_is_no_stop_text(post, stop):
    (message,) = messages_of(post(f'{{"prompt": "a", "stop": {stop}}}'), "stop")
    assert "half of a surrogate pair" in message


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
    asked = GenerateRequestSchema().load({"prompt": "a", "temperature": 1, "stop": ["b"]})
    assert isinstance(asked.request, GenerationRequest)
    assert hash(asked)


@pytest.mark.usefixtures("app")
def test_a_whole_temperature_becomes_a_float():
    asked = GenerateRequestSchema().load({"prompt": "a", "temperature": 1})
    assert isinstance(asked.request.temperature, float)


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
