"""What each method needs of the rows."""

import pytest

from adapters.prompts import Message
from training.dataset.methods import LABELLED_FALSE, PAIRS, usable_rows
from training.dataset.problems import Problems
from training.dataset.rows import Row


def row(line, **changes):
    return Row((Message("user", f"{line}?"),), "An answer.", "terse", line=line, **changes)


def use(method, *rows):
    problems = Problems("rows.jsonl")
    used, left_out = usable_rows(rows, method, problems)
    return [row.line for row in used], dict(left_out), [str(p) for p in problems.found]


def test_sft_leaves_out_and_counts_what_is_labelled_as_bad():
    used, left_out, told = use("sft", row(1), row(2, label=True), row(3, label=False))

    assert used == [1, 2]
    assert left_out == {LABELLED_FALSE: 1}
    assert told == []


def test_sft_learns_the_chosen_answer_of_a_pair():
    used, left_out, told = use("sft", row(1, rejected="A worse one."), row(2))

    assert used == [1, 2]
    assert left_out == {PAIRS: 1}
    assert told == []


@pytest.mark.parametrize(
    ("method", "rows"),
    [
        ("dpo", [row(1, rejected="a"), row(2, rejected="b")]),
        ("kto", [row(1, label=True), row(2, label=False)]),
    ],
)
def test_rows_that_fit_the_method_are_all_used(method, rows):
    assert use(method, *rows) == ([1, 2], {}, [])


def test_dpo_needs_pairs_and_says_where_one_is_missing():
    used, _, [told] = use("dpo", row(1, rejected="a"), row(2), row(3))

    assert used == []
    assert told.startswith("rows.jsonl: method dpo needs pairs, and 2 of 3 examples have no")
    assert "line 2" in told


def test_kto_needs_a_label_on_every_row():
    used, _, [told] = use("kto", row(1, label=True), row(2, label=False), row(3))

    assert used == []
    assert "1 of 3 examples have no 'label' (the first at line 3)" in told


@pytest.mark.parametrize("label", [True, False])
def test_kto_needs_labels_of_both_kinds(label):
    used, _, [told] = use("kto", row(1, label=label), row(2, label=label))

    assert used == []
    assert f"all 2 are labelled {str(label).lower()}" in told
