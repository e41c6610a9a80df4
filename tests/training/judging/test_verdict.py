import pytest

from serving.types import Output
from tests.training.judging.reports import LONG, SHORT, make_report, outputs, with_answers
from training.judging.score import StyleScore
from training.judging.style_report import compare
from training.judging.verdict import find, headline


def failed(report):
    return [finding.text for finding in find(report) if not finding.passed]


def test_styles_that_are_far_apart_and_end_were_learned():
    report = make_report()

    assert failed(report) == []
    assert headline(report) == "The adapter has learned its styles (terse, verbose)."


def test_one_failure_is_enough_to_say_so():
    report = make_report(short=[10, 20, 30, 40], long=[60, 60, 90, 90])

    assert len(failed(report)) == 1
    assert headline(report) == (
        "The adapter has not learned its styles (terse, verbose) well: one finding speaks "
        "against it."
    )


def test_several_failures_are_counted():
    report = make_report(short=SHORT, long=SHORT)

    assert f"well: {len(failed(report))} findings speak against it" in headline(report)


def test_a_median_outside_the_window_fails():
    [text] = failed(make_report(short=[51] * 4, long=[400] * 4))

    assert (
        text == "terse answers have 51 tokens in the median (at most 50 wanted); 100% lie outside."
    )


def test_a_median_inside_is_not_enough_if_many_answers_lie_outside():
    [text] = failed(make_report(short=[10] * 5 + [60] * 3, long=[200] * 8, control=([9] * 8,) * 2))

    assert "38% lie outside" in text


def test_a_quarter_of_the_answers_may_lie_outside():
    assert failed(make_report(short=[10, 10, 10, 60], long=LONG)) == []


def test_windows_of_the_training_lengths_are_used():
    lengths = {
        "terse": {"p10": 1, "p50": 5, "p90": 9},
        "verbose": {"p10": 90, "p50": 99, "p90": 300},
    }

    first, *_ = failed(make_report(training={"lengths": lengths}))

    assert first.endswith("(" + "at most 9 wanted); 100% lie outside.")


def test_a_ratio_below_three_fails():
    [text] = failed(make_report(short=[40] * 4, long=[110] * 4, control=([40] * 4,) * 2))

    assert text.startswith("verbose answers are 2.8 times as long as terse ones (3 times wanted)")


def test_an_adapter_that_does_no_more_than_plain_instructions_fails():
    [text] = failed(make_report(control=(SHORT, LONG)))

    assert text.startswith("The base does as much without the adapter: with plain instructions")


def test_a_base_that_obeys_instructions_a_little_does_not_count_against_the_adapter():
    assert failed(make_report(control=(SHORT, [50, 60, 70, 80]))) == []


@pytest.mark.parametrize(
    ("flawed", "reason", "words"),
    [
        (list(range(100)), "length", "75% of the verbose answers end by themselves, 0% repeat"),
        ([7] * 100, "stop", "100% of the verbose answers end by themselves, 25% repeat"),
    ],
)
def test_answers_that_are_cut_off_or_repeat_themselves_fail(flawed, reason, words):
    long = [Output(flawed, "", reason), *outputs([200, 300, 400])]

    [text] = failed(with_answers(make_report(), terse=outputs(SHORT), verbose=long))

    assert text.startswith(words)


def test_a_set_without_windows_is_scored_but_not_compared():
    comparison = compare({"no token": outputs(SHORT)}, [None])

    assert comparison.separation is None
    assert isinstance(comparison.scores["no token"], StyleScore)
    assert comparison.to_dict().keys() == {"no token"}


def test_of_three_styles_the_outer_two_are_compared():
    windows = list(make_report().windows.values())
    sets = {"a": outputs([10]), "b": outputs([500]), "c": outputs([100])}

    comparison = compare(sets, [windows[0], windows[1], windows[1]])

    assert comparison.separation.median_ratio == 10
