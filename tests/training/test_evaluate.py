import pytest

from serving.types import Output
from training.evaluate import PRESETS_OFF, auc, score


def test_styles_are_judged_greedily_without_minimum_and_with_a_generous_maximum():
    assert PRESETS_OFF.greedy
    assert PRESETS_OFF.min_new_tokens == 0
    assert PRESETS_OFF.max_new_tokens >= 512


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


def outputs(*lengths, reason="stop"):
    return [Output(list(range(length)), "", reason) for length in lengths]


def test_a_score_tells_how_long_the_answers_are():
    found = score(outputs(30, 10, 24, 12))
    assert (found.median_tokens, found.min_tokens, found.max_tokens) == (18, 10, 30)


def test_a_score_tells_how_many_answers_ended_by_themselves():
    found = score([*outputs(5, 5, 5), *outputs(5, reason="length")])
    assert found.ended_share == 0.75


def test_an_empty_answer_counts_as_one_of_no_tokens():
    found = score(outputs(0, 4))
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
    found = score([Output([7] * 50, "", "length"), *outputs(50, 50, 50)])
    assert found.repeating_share == 0.25
