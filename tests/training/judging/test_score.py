import pytest

from serving.types import Output
from tests.training.judging.reports import outputs
from training.judging.score import auc, score, separate
from training.judging.windows import Window

WINDOWS = (Window(at_most=50), Window(at_least=80))


@pytest.mark.parametrize(
    ("shorter", "longer", "share"),
    [
        ([1, 2, 3], [4, 5, 6], 1.0),
        ([4, 5, 6], [1, 2, 3], 0.0),
        ([5, 5], [5, 5, 5], 0.5),
        ([1, 3], [2, 4], 0.75),
        ([1], [1, 2], 0.75),
        ([2], [1, 2, 3, 4], 0.625),
    ],
)
def test_the_separation_is_the_share_of_pairs_in_order_with_ties_counted_half(
    shorter, longer, share
):
    assert auc(shorter, longer) == share
    assert auc(longer, shorter) == 1 - share


def test_answers_are_paired_by_their_prompt():
    found = separate([10, 20, 30, 40], [15, 25, 35, 40], WINDOWS)

    assert found.paired_auc == (1 + 1 + 1 + 0.5) / 4
    assert found.auc == (4 + 3 + 2 + 0.5) / 16


def test_how_far_styles_are_apart_is_the_ratio_of_their_medians():
    assert separate([10, 20, 60], [50, 80, 500], WINDOWS).median_ratio == 4.0


def test_styles_that_answer_nothing_are_not_divided_by():
    assert separate([0, 0], [6, 6], WINDOWS).median_ratio == 6.0


def test_a_swap_succeeds_where_both_answers_to_a_prompt_suit_their_styles():
    found = separate([40, 60, 40, 50], [90, 90, 70, 80], WINDOWS)

    assert found.swap_share == 0.5


def test_intervals_hold_the_share_and_are_the_same_every_time():
    short, long = [20, 30, 40, 50, 60, 70], [25, 20, 60, 90, 55, 90]

    found = separate(short, long, WINDOWS)

    assert found == separate(short, long, WINDOWS)
    assert found.auc_interval[0] < found.auc < found.auc_interval[1]
    low, high = found.paired_auc_interval
    assert low < found.paired_auc == 4 / 6 < high


def test_the_paired_interval_is_that_of_drawing_prompts_with_replacement():
    # half of 100 prompts: 95 % of binomial(100, 0.5) / 100 lies between 0.40 and 0.60
    found = separate([50] * 100, [40, 60] * 50, WINDOWS)

    low, high = found.paired_auc_interval
    assert 0.38 < low < 0.43
    assert 0.57 < high < 0.62


def test_the_interval_of_all_pairs_keeps_the_answers_to_a_prompt_together():
    # With lengths that agree within each prompt, draws shift both sets alike: the middle stays.
    lengths = list(range(1, 41))

    found = separate(lengths, lengths, WINDOWS)

    assert found.auc == 0.5
    assert found.auc_interval == (0.5, 0.5)


def test_full_separation_has_an_interval_without_width():
    found = separate([1, 2, 3], [7, 8, 9], WINDOWS)

    assert found.auc_interval == found.paired_auc_interval == (1.0, 1.0)


def test_a_score_tells_how_long_the_answers_are():
    found = score(outputs([30, 10, 24, 12]))

    assert (found.median_tokens, found.min_tokens, found.max_tokens) == (18, 10, 30)


def test_a_score_tells_how_many_answers_ended_by_themselves():
    found = score([*outputs([5, 5, 5]), *outputs([5], reason="length")])

    assert found.ended_share == 0.75


def test_a_score_tells_how_many_answers_lie_outside_their_window():
    assert score(outputs([10, 50, 51, 300]), Window(at_most=50)).violation_rate == 0.5


def test_answers_without_a_style_violate_nothing():
    assert score(outputs([10, 300])).violation_rate is None


def test_an_empty_answer_counts_as_one_of_no_tokens():
    found = score(outputs([0, 4]))

    assert (found.min_tokens, found.repeating_share) == (0, 0.0)


@pytest.mark.parametrize(
    ("ids", "share"),
    [
        ([1, 2, 3, 4] * 2, 0.0),
        ([1, 2, 3, 4] * 3, 1.0),
        ([1, 2, 3, 4, 9, 1, 2, 3, 4, 8, 1, 2, 3, 4], 1.0),
        ([7] * 5, 0.0),
        ([7] * 6, 1.0),
        ([1, 2, 3] * 3, 0.0),
        ([1, 2, 3] * 4, 1.0),
        (list(range(500)), 0.0),
    ],
)
def test_an_answer_repeats_itself_if_four_tokens_in_a_row_stand_more_than_twice(ids, share):
    assert score([Output(ids, "", "stop")]).repeating_share == share


def test_the_share_of_answers_that_repeat_themselves_is_told():
    found = score([Output([7] * 50, "", "length"), *outputs([50, 50, 50])])

    assert found.repeating_share == 0.25
