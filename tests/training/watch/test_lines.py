import dataclasses

import pytest

from training.watch.entries import EvaluationEntry, Sample, SamplesEntry
from training.watch.lines import bar_text, duration, evaluation_line, samples_text, training_line


def test_a_line_of_training_tells_all_that_is_known(entry):
    assert training_line(entry) == (
        "step 50/400 · loss 2.341 · lr 1.9e-4 · 1,240 tok/s · 11.2 GB (47 %) · ETA 3 min 20 s"
    )


def test_what_is_not_known_is_left_out(entry):
    names = ("learning_rate", "tokens_per_second", "memory_gb", "eta_seconds")
    bare = dataclasses.replace(entry, **dict.fromkeys(names))

    assert training_line(bare) == "step 50/400 · loss 2.341"


def test_steps_that_are_not_planned_are_not_told(entry):
    assert training_line(dataclasses.replace(entry, total_steps=None)).startswith("step 50 · loss")
    assert evaluation_line(EvaluationEntry(0, None, None, 5.0)) == "step 0 · held-out loss 5.000"


def test_memory_of_an_unknown_whole_has_no_share(entry):
    assert "· 11.2 GB ·" in training_line(dataclasses.replace(entry, memory_share=None))


def test_a_learning_rate_of_zero_and_a_lost_loss_are_told(entry):
    line = training_line(dataclasses.replace(entry, learning_rate=0.0, loss=float("nan")))

    assert "loss nan · lr 0 ·" in line


def test_behind_a_bar_the_time_left_is_cut_off_last(entry):
    assert bar_text(entry).startswith("ETA 3 min 20 s · loss 2.341 · ")


def test_an_evaluation_tells_each_style():
    styles = {"terse": 1.3011, "verbose": 1.1901}
    entry = EvaluationEntry(50, 400, 0.5, 1.2345, 3.4366, styles, {"terse": 3.67, "verbose": 3.29})

    assert evaluation_line(entry) == (
        "step 50/400 · held-out loss 1.234 (terse 1.301, verbose 1.190)"
        " · perplexity 3.44 (terse 3.67, verbose 3.29)"
    )


def test_an_evaluation_without_styles_tells_one_loss():
    assert evaluation_line(EvaluationEntry(5, 9, None, 0.69)) == "step 5/9 · held-out loss 0.690"


def test_answers_to_one_question_stand_below_it():
    samples = (
        Sample("What is a key?", "terse", "It opens a lock.", 6, True),
        Sample("What is a key?", "verbose", "A key is a piece of", 64, False),
        Sample("Why?", "terse", "So.", 2, True),
    )

    assert samples_text(SamplesEntry(5, samples)).splitlines() == [
        "  What is a key?",
        "    terse    It opens a lock.",
        "    verbose  A key is a piece of …",
        "  Why?",
        "    terse    So.",
    ]


def test_an_answer_cannot_move_the_cursor_or_break_the_line():
    sample = Sample("One\ntwo?", "terse", "red \x1b[31m\r\nnext", 9, True)

    text = samples_text(SamplesEntry(5, (sample,)))

    assert text == "  One two?\n    terse  red [31m next"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (44.6, "45 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (5000, "1 h 23 min"),
        (7512, "2 h 5 min"),
        (97_200, "1 d 3 h"),
        (float("inf"), "unknown"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds, text):
    assert duration(seconds) == text
