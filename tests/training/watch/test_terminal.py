import fcntl
import io
import os
import struct
import termios

import pytest

from training.watch.entries import EvaluationEntry, Sample, SamplesEntry
from training.watch.terminal import PlainLines, ProgressBar, open_terminal

EVALUATION = EvaluationEntry(5, 10, 0.5, 1.5)
ANSWERS = SamplesEntry(5, (Sample("Why?", "terse", "So.", 2, True),))


@pytest.fixture
def bar(screen):
    bar = ProgressBar(screen)
    yield bar
    bar.end()


@pytest.fixture
def terminal_of_columns():
    """A real terminal of so many columns; nobody looks at it."""
    opened = []

    def open_it(columns):
        ends = os.openpty()
        opened.extend(ends)
        fcntl.ioctl(ends[1], termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        return os.fdopen(os.dup(ends[1]), "w")

    yield open_it
    for end in opened:
        os.close(end)


def test_a_bar_is_for_terminals_that_have_room_for_one(terminal_of_columns, tmp_path):
    with terminal_of_columns(80) as stream:
        assert isinstance(open_terminal(stream), ProgressBar)
    with terminal_of_columns(0) as stream:  # as some containers give
        assert isinstance(open_terminal(stream), PlainLines)
    with (tmp_path / "log").open("w") as stream:
        assert isinstance(open_terminal(stream), PlainLines)
    assert isinstance(open_terminal(io.StringIO()), PlainLines)


def test_plain_lines_tell_entries_and_nothing_else(lines, entry):
    plain = PlainLines(lines)

    plain.begin(0, 400)
    plain.advance(49, 400)
    plain.write(entry)
    plain.write(ANSWERS)
    plain.end()
    plain.write(EVALUATION)

    assert lines.getvalue().splitlines() == [
        "step 50/400 · loss 2.341 · lr 1.9e-4 · 1,240 tok/s · 11.2 GB (47 %) · ETA 3 min 20 s",
        "answers at step 5",
        "  Why?",
        "    terse  So.",
        "step 5/10 · held-out loss 1.500",
    ]


def test_the_bar_appears_when_training_begins(bar, screen):
    assert screen.getvalue() == ""
    bar.begin(0, 10)
    assert screen.last_line().startswith("0%|")


def test_the_bar_is_full_with_the_last_step(bar, screen):
    bar.begin(0, 10)
    for step in range(1, 11):
        bar.advance(step, 10)
    bar.end()
    assert screen.last_line().startswith("100%|")
    assert "10/10" in screen.last_line()


def test_the_bar_of_a_resumed_run_begins_where_that_one_ended(bar, screen):
    bar.begin(6, 10)
    assert "| 6/10" in screen.last_line()
    bar.advance(7, 10)
    bar.end()
    assert "| 7/10" in screen.last_line()


def test_a_time_budget_opens_the_bar_with_its_first_plan_and_may_change_it(bar, screen):
    bar.begin(0, None)
    assert screen.getvalue() == ""
    bar.advance(1, 50)
    assert "| 1/50" in screen.last_line()
    bar.advance(2, 40)
    bar.end()
    assert "| 2/40" in screen.last_line()


def test_a_second_beginning_replaces_the_bar(bar, screen):
    bar.begin(0, 10)
    bar.advance(4, 10)
    bar.begin(2, 20)
    assert "| 2/20" in screen.last_line()


def test_the_bar_shows_the_latest_figures(bar, screen, entry):
    bar.begin(0, 400)
    bar.write(entry)
    assert "| 0/400, ETA 3 min 20 s · loss 2.341 · lr 1.9e-4" in screen.last_line()


def test_everything_else_stands_above_the_bar(bar, screen):
    bar.begin(0, 10)
    bar.write(EVALUATION)
    bar.write(ANSWERS)
    bar.say("a remark")
    shown = [line.strip() for line in screen.getvalue().replace("\r", "\n").splitlines()]
    assert "step 5/10 · held-out loss 1.500" in shown
    assert "terse  So." in shown
    assert "a remark" in shown
    assert shown[-1].startswith("0%|")


def test_without_a_bar_figures_are_a_line(bar, screen, entry):
    bar.write(entry)
    bar.advance(3, 10)
    assert screen.getvalue().startswith("step 50/400 · loss 2.341")
    assert "|" not in screen.getvalue()
