import dataclasses

import pytest

from adapters.styles import STYLES, TERSE, VERBOSE, Preset, Style
from tests.training.judging.reports import make_manifest
from training.judging.windows import Window, are_trained, shortest_first, windows_of

MIDDLE = Style("middle", "<STYLE_MIDDLE>", "Two sentences.", Preset(0.5, 0.9, 0, 100))
LENGTHS = {
    "terse": {"p10": 12, "p50": 18, "p90": 25},
    "middle": {"p10": 30, "p50": 44, "p90": 60},
    "verbose": {"p10": 140, "p50": 190, "p90": 260},
}


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        (Window(at_most=50), [0, 50], [50.5, 51]),
        (Window(at_least=80), [80, 10_000], [0, 79]),
        (Window(30, 60), [30, 45, 60], [29, 61]),
        (Window(), [0, 10_000], []),
    ],
)
def test_a_window_holds_what_lies_between_its_ends(window, inside, outside):
    assert all(window.holds(length) for length in inside)
    assert not any(window.holds(length) for length in outside)


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (Window(at_most=50), "at most 50"),
        (Window(at_least=80), "at least 80"),
        (Window(30, 60), "30 to 60"),
        (Window(at_most=0), "at most 0"),
        (Window(), "any"),
    ],
)
def test_a_window_can_be_read(window, words):
    assert str(window) == words


def test_without_training_lengths_the_windows_are_the_stated_limits():
    manifest = make_manifest()

    assert windows_of(manifest) == {"terse": Window(at_most=50), "verbose": Window(at_least=80)}
    assert not are_trained(manifest)


def test_the_windows_are_the_outer_tenths_of_the_training_lengths():
    manifest = make_manifest(lengths=LENGTHS)

    assert windows_of(manifest) == {"terse": Window(at_most=25), "verbose": Window(at_least=140)}
    assert are_trained(manifest)


def test_a_style_between_two_others_is_held_to_both_ends():
    manifest = make_manifest((VERBOSE, MIDDLE, TERSE), lengths=LENGTHS)

    assert windows_of(manifest)["middle"] == Window(30, 60)


def test_without_training_lengths_a_style_between_two_others_may_be_of_any_length():
    assert windows_of(make_manifest((TERSE, MIDDLE, VERBOSE)))["middle"] == Window()


def test_a_style_alone_has_its_training_lengths_or_no_limits():
    assert windows_of(make_manifest((TERSE,), lengths=LENGTHS)) == {"terse": Window(12, 25)}
    assert windows_of(make_manifest((TERSE,))) == {"terse": Window()}


def test_lengths_that_lack_a_style_are_not_used():
    assert not are_trained(make_manifest(lengths={"terse": LENGTHS["terse"]}))


def test_the_shortest_style_comes_first_whatever_the_default_is():
    backwards = make_manifest((VERBOSE, MIDDLE, TERSE))

    assert [style.name for style in shortest_first(backwards)] == ["terse", "middle", "verbose"]


def test_training_lengths_count_more_than_presets():
    lengths = {"terse": LENGTHS["verbose"], "verbose": LENGTHS["terse"]}

    assert shortest_first(make_manifest(lengths=lengths)) == (VERBOSE, TERSE)


def test_of_equal_limits_the_lower_minimum_is_the_shorter_style():
    free = Preset(0.5, 0.9, 0, 256)
    terse = dataclasses.replace(TERSE, preset=free)

    assert shortest_first(make_manifest((VERBOSE, terse))) == (terse, VERBOSE)
    assert shortest_first(make_manifest(STYLES)) == STYLES
