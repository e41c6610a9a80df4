import dataclasses
import json
import math
from datetime import UTC, datetime

import pytest

from app.training_status import read_newest
from training.watch.entries import EvaluationEntry
from training.watch.status_file import REFRESH_SECONDS, StatusFile

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    return folder / "status.json"


@pytest.fixture
def noon(clock):
    clock.seconds = NOON.timestamp()
    return clock


@pytest.fixture
def status(path, noon):
    return StatusFile(path, "tiny", now=noon)


def read(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("state", ["running", "finished", "failed"])
def test_the_page_reads_what_is_written(path, entry, state):
    status = StatusFile(path, "tiny")  # written now: an old one would count as stale
    status.write(entry)
    status.change_state(state)

    shown = read_newest(path.parent.parent)

    assert (shown.state, shown.name, shown.step, shown.total_steps) == (state, "tiny", 50, 400)
    assert (shown.loss, shown.memory_gb) == (2.3412, 11.2)
    assert abs((datetime.now(UTC) - shown.updated).total_seconds()) < 60


def test_the_page_reads_a_run_that_has_not_begun(path):
    StatusFile(path, "tiny").change_state("running")

    shown = read_newest(path.parent.parent)

    assert (shown.state, shown.step, shown.loss, shown.eta_seconds) == ("running", None, None, None)


def test_a_failure_is_told_with_its_reason(status, path):
    status.change_state("failed", "out of disk space")

    assert read(path)["detail"] == "out of disk space"
    assert read(path)["updated"] == "2026-11-21T12:00:00+00:00"


def test_a_run_that_goes_on_forgets_the_failure(status, path):
    status.change_state("failed", "out of disk space")
    status.change_state("running")

    assert read(path)["state"] == "running"
    assert read(path)["detail"] is None


def test_a_reason_as_long_as_a_book_is_cut(status, path):
    status.change_state("failed", "x" * 100_000)

    assert 100 < len(read(path)["detail"]) < 10_000  # the page reads 64 KiB at most


@pytest.mark.parametrize(("state", "eta"), [("finished", 0.0), ("failed", None)])
def test_a_run_that_is_over_has_no_time_left(status, path, entry, state, eta):
    status.write(entry)
    assert read(path)["eta_seconds"] == 200.4

    status.change_state(state)

    assert read(path)["eta_seconds"] == eta


def test_a_lost_loss_is_null(status, path, entry):
    status.write(dataclasses.replace(entry, loss=math.nan))

    assert "NaN" not in path.read_text()
    assert read(path)["loss"] is None


def test_an_evaluation_leaves_the_figures_of_training(status, path, entry):
    status.write(entry)
    status.write(EvaluationEntry(50, 400, 0.5, 1.5))

    assert (read(path)["loss"], read(path)["heldout_loss"]) == (2.3412, 1.5)


def test_slow_steps_are_told_before_the_reader_gives_the_run_up(status, path, noon):
    status.change_state("running")
    status.advance(1, 10)
    assert read(path)["step"] is None  # so soon it is not worth a write

    noon.tick(REFRESH_SECONDS)
    status.advance(2, 10)

    assert (read(path)["step"], read(path)["total_steps"]) == (2, 10)
    assert read(path)["updated"] == "2026-11-21T12:01:00+00:00"


def test_nothing_is_left_beside_the_file(status, path, entry):
    status.write(entry)
    status.change_state("finished")

    assert [file.name for file in path.parent.iterdir()] == ["status.json"]
