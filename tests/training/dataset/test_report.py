"""Quantiles, and the report as people read it."""

import pytest

from tests.training.dataset.conftest import settings, write_lines
from training.dataset.load import examine
from training.dataset.report import Quantiles
from training.dataset.summary import summarize

ROW = {"prompt": "What is TCP?", "completion": "A protocol.", "style": "terse"}


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([7], (7, 7, 7, 7, 7)),
        ([0, 10], (0, 1, 5, 9, 10)),
        (list(range(101)), (0, 10, 50, 90, 100)),
    ],
)
def test_quantiles_lie_between_the_lengths(lengths, expected):
    found = Quantiles.of(lengths)

    assert (found.min, found.p10, found.p50, found.p90, found.max) == expected


def lines_of(path, prompt, limit=20, **values):
    return list(summarize(examine(settings(path, **values), prompt).report, limit))


def test_people_read_the_format_the_counts_and_the_lengths(path, prompt):
    write_lines(path, ROW, {**ROW, "style": "verbose"}, {**ROW, "prompt": "UDP, briefly?"})

    lines = lines_of(path, prompt, validation_share=0.0)

    assert lines[0] == "rows.jsonl: 3 rows, format prompt-completion (told from the keys)"
    assert "to learn: 3 examples" in lines
    [terse] = [line.split() for line in lines if line.startswith("  terse")]
    assert terse[:3] == ["terse", "2", "prompt"]
    assert "  styles: 3 named by the row" in lines
    assert "held out: 0 examples" in lines


def test_a_format_that_was_given_is_called_so(path, prompt):
    write_lines(path, ROW)

    lines = lines_of(path, prompt, data_format="prompt-completion")

    assert lines[0].endswith("format prompt-completion (as configured)")


def test_problems_are_listed_by_kind_up_to_the_limit(path, prompt):
    write_lines(path, ROW, *[{"prompt": "", "completion": "a"}] * 5, ["a"])

    lines = lines_of(path, prompt, limit=2)

    start = lines.index("CANNOT BE USED: empty content (5)")
    assert lines[start + 1] == "  rows.jsonl:2: 'prompt' must be text that is not empty"
    assert lines[start + 3] == "  … and 3 more; --all lists them"
    assert "CANNOT BE USED: no object (1)" in lines


def test_without_a_limit_every_problem_is_listed(path, prompt):
    write_lines(path, ROW, *[{"prompt": "", "completion": "a"}] * 50)

    lines = lines_of(path, prompt, limit=None, validation_share=0.0)

    assert sum(line.startswith("  rows.jsonl:") for line in lines) == 50


def test_what_is_left_out_skipped_and_cut_is_told(path, prompt):
    words = "and so on " * 40
    write_lines(
        path,
        {"prompt": "A?", "completion": "Yes.", "label": True},
        {"prompt": "B?", "completion": "No.", "label": False},
        {"prompt": "C?", "completion": words, "label": True},
    )

    cut = lines_of(path, prompt, max_length=40, on_long_row="cut", validation_share=0.0)
    skipped = lines_of(path, prompt, max_length=40, on_long_row="skip", validation_share=0.0)

    told = "left out, labelled as undesirable, which only kto learns from: 1"
    assert told in cut
    assert "  answers that lost their end, and their end-of-text, for length: 1" in cut
    assert "  examples left out for their length: 1" in skipped
