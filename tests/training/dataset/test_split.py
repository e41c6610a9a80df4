"""Keeping what is measured apart from what is learned."""

import pytest

from adapters.prompts import Message
from training.dataset.problems import Problems
from training.dataset.rows import Row
from training.dataset.split import split, without_leaks


def row(line, *said, style="terse"):
    """What the user says, message by message."""
    messages = [Message("user", said[0])]
    for words in said[1:]:
        messages += [Message("assistant", "Yes."), Message("user", words)]
    return Row(tuple(messages), "An answer.", style, line=line)


ROWS = [row(n, f"What is number {n}?") for n in range(400)]


def leaks(heldout, train):
    problems = Problems("heldout.jsonl")
    kept = without_leaks(heldout, train, "train.jsonl", problems)
    return [row.line for row in kept], [str(problem) for problem in problems.found]


def test_about_the_given_share_is_measured_and_nothing_is_lost():
    learned, measured = split(ROWS, 0.2, seed=20)

    assert 60 <= len(measured) <= 100
    assert sorted([*learned, *measured], key=lambda row: row.line) == ROWS


def test_all_that_begins_with_one_question_stays_together():
    rows = [
        variant
        for n in range(100)
        for variant in (
            row(n, f"What is number {n}?"),
            row(n, f"what is Number {n} ?!", style="verbose"),
            row(n, f"What is number {n}?", "And why?"),
        )
    ]

    learned, measured = split(rows, 0.5, seed=20)

    assert learned
    assert measured
    assert {row.line for row in learned} & {row.line for row in measured} == set()


def test_a_question_keeps_its_side_whatever_rows_come_go_or_move():
    _, measured = split(ROWS, 0.2, seed=20)
    moved = [row(n + 1000, f"What is number {n}?") for n in range(399, 199, -1)]

    _, fewer = split(moved, 0.2, seed=20)

    assert {row.line - 1000 for row in fewer} == {row.line for row in measured if row.line >= 200}


def test_another_seed_draws_others():
    assert split(ROWS, 0.2, seed=20) != split(ROWS, 0.2, seed=21)


def test_a_share_of_nothing_measures_nothing():
    assert split(ROWS, 0.0, seed=20) == (ROWS, [])


@pytest.mark.parametrize("share", [0.001, 0.999])
@pytest.mark.parametrize("number", [2, 3, 5])
def test_of_few_questions_each_side_gets_one_at_least(share, number):
    for seed in range(20):
        learned, measured = split(ROWS[:number], share, seed)
        assert learned
        assert measured


def test_a_single_question_is_learned():
    assert split(ROWS[:1], 0.9, seed=20) == (ROWS[:1], [])
    assert split([], 0.2, seed=20) == ([], [])


# Leaks


def test_a_question_that_is_learned_measures_nothing():
    kept, told = leaks([row(4, "what is  TCP"), row(5, "What is UDP?")], [row(9, "What is TCP?")])

    assert kept == [5]
    assert told == [
        "heldout.jsonl:4: the same question is learned (train.jsonl:9), so it measures nothing"
    ]


def test_the_first_of_several_learned_rows_is_named():
    _, [told] = leaks([row(1, "A?")], [row(7, "A?"), row(8, "A?")])

    assert "train.jsonl:7" in told


def test_conversations_that_only_begin_alike_are_no_leak():
    kept, told = leaks([row(1, "Hi.", "What is TCP?")], [row(1, "Hi.", "What is UDP?")])

    assert kept == [1]
    assert told == []


def test_questions_without_letters_are_compared_as_they_stand():
    kept, _ = leaks([row(1, "?!"), row(2, "🙂")], [row(1, "🙂")])

    assert kept == [1]
