import dataclasses
import json

import pytest

from adapters.styles import STYLES, TERSE, VERBOSE, Preset, Style, detect_style


@pytest.fixture
def preset():
    return Preset(temperature=0.7, top_p=0.9, min_new_tokens=64, max_new_tokens=256)


def test_terse_has_its_golden_values():
    assert TERSE.name == "terse"
    assert TERSE.token == "<STYLE_TERSE>"
    assert dataclasses.asdict(TERSE.preset) == {
        "temperature": 0.1,
        "top_p": 0.95,
        "min_new_tokens": 0,
        "max_new_tokens": 32,
        "do_sample": True,
    }


def test_verbose_has_its_golden_values():
    assert VERBOSE.name == "verbose"
    assert VERBOSE.token == "<STYLE_VERBOSE>"
    assert dataclasses.asdict(VERBOSE.preset) == {
        "temperature": 0.7,
        "top_p": 0.9,
        "min_new_tokens": 64,
        "max_new_tokens": 256,
        "do_sample": True,
    }


def test_terse_comes_first_because_it_is_the_default():
    assert STYLES == (TERSE, VERBOSE)


@pytest.mark.parametrize(
    ("prompt", "style"),
    [
        ("Explain rate limiting briefly.", TERSE),
        ("Give a concise definition of entropy.", TERSE),
        ("Give a detailed account of entropy.", VERBOSE),
        ("Write a well-structured answer about TCP.", VERBOSE),
        ("What is rate limiting?", TERSE),
        ("", TERSE),
    ],
)
def test_the_style_is_guessed_from_the_users_words(prompt, style):
    assert detect_style(prompt) is style


@pytest.mark.parametrize(
    ("prompt", "style"), [("BRIEFLY: what is TCP?", TERSE), ("A Detailed answer!", VERBOSE)]
)
def test_the_guess_ignores_upper_and_lower_case(prompt, style):
    assert detect_style(prompt) is style


def test_a_wish_for_brevity_wins_over_a_wish_for_detail():
    assert detect_style("Give a detailed answer, but briefly.") is TERSE


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0},
        {"top_p": 1},
        {"min_new_tokens": 0},
        {"min_new_tokens": 256},
        {"min_new_tokens": 1, "max_new_tokens": 1},
    ],
)
def test_values_on_the_limits_are_accepted(preset, values):
    changed = dataclasses.replace(preset, **values)
    assert dataclasses.asdict(changed) == {**dataclasses.asdict(preset), **values}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0),
        ("top_p", 1.01),
        ("top_p", float("nan")),
        ("min_new_tokens", -1),
        ("min_new_tokens", 257),
        ("max_new_tokens", 0),
        ("max_new_tokens", 63),
    ],
)
def test_a_value_that_cannot_be_sampled_with_is_refused_by_name(preset, name, value):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(preset, **{name: value})


def test_all_bad_values_of_a_preset_are_listed_at_once():
    with pytest.raises(ValueError, match=r"temperature.*top_p.*max_new_tokens.*min_new_tokens"):
        Preset(temperature=-1, top_p=2, min_new_tokens=-3, max_new_tokens=0)


def test_an_override_of_zero_is_kept(preset):
    changed = preset.override(temperature=0, min_new_tokens=0)
    assert (changed.temperature, changed.min_new_tokens) == (0, 0)


def test_an_override_of_false_is_kept(preset):
    assert preset.override(do_sample=False).do_sample is False


def test_none_is_not_an_override(preset):
    assert preset.override(temperature=None, top_p=None, do_sample=None) == preset


def test_an_override_leaves_the_preset_itself_alone(preset):
    preset.override(top_p=0.5)
    assert preset.top_p == 0.9


def test_an_override_leaves_the_other_values_alone(preset):
    assert preset.override(top_p=0.5) == Preset(0.7, 0.5, 64, 256, True)


def test_overrides_that_do_not_fit_the_rest_are_refused(preset):
    with pytest.raises(ValueError, match="min_new_tokens must be between 0 and max_new_tokens"):
        preset.override(max_new_tokens=10)


@pytest.mark.parametrize(
    ("values", "greedy"),
    [
        ({}, False),
        ({"temperature": 0}, True),
        ({"do_sample": False}, True),
        ({"temperature": 0, "do_sample": False}, True),
    ],
)
def test_a_preset_is_greedy_without_sampling_or_at_temperature_zero(preset, values, greedy):
    assert preset.override(**values).greedy is greedy


@pytest.mark.parametrize("name", ["", " terse", "terse\n"])
def test_a_style_nobody_could_ask_for_is_refused(preset, name):
    with pytest.raises(ValueError, match="name"):
        Style(name=name, token="<STYLE>", description="", preset=preset)


@pytest.mark.parametrize("token", ["", "<STYLE TERSE>", "<STYLE>\n"])
def test_a_style_token_of_several_words_is_refused(preset, token):
    with pytest.raises(ValueError, match="token"):
        Style(name="terse", token=token, description="", preset=preset)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_a_style_survives_the_way_through_json(style):
    assert Style.from_dict(json.loads(json.dumps(style.to_dict()))) == style


def test_an_unknown_key_in_a_written_style_is_refused():
    with pytest.raises(TypeError, match="colour"):
        Style.from_dict({**TERSE.to_dict(), "colour": "red"})


def test_a_preset_cannot_be_changed_in_place(preset):
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset.top_p = 0.5


def test_a_style_cannot_be_changed_in_place(preset):
    style = Style(name="terse", token="<STYLE>", description="", preset=preset)
    with pytest.raises(dataclasses.FrozenInstanceError):
        style.name = "short"
