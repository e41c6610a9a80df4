import dataclasses
import json
import math

import pytest

from training.watch.entries import EvaluationEntry
from training.watch.log_file import LogFile, read_log


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


@pytest.fixture
def log(path):
    return LogFile(path)


def steps(path):
    return [entry["step"] for entry in read_log(path)]


def test_every_entry_is_on_disk_at_once_as_a_line_of_json(log, path, entry):
    log.write(entry)
    log.write(EvaluationEntry(50, 400, 0.5, 1.5, heldout_loss_by_style={"terse": 1.0}))

    training, evaluation = (json.loads(line) for line in path.read_text().splitlines())
    assert {key: training[key] for key in ("event", "step", "loss", "grad_norm")} == {
        "event": "training",
        "step": 50,
        "loss": 2.3412,
        "grad_norm": 1.5,
    }
    assert evaluation["heldout_loss_by_style"] == {"terse": 1.0}


def test_the_fields_of_a_training_entry_are_these(log, path, entry):
    log.write(entry)

    assert list(read_log(path)[0]) == [
        "event",
        "step",
        "total_steps",
        "epoch",
        "loss",
        "learning_rate",
        "grad_norm",
        "tokens",
        "tokens_per_second",
        "seconds",
        "eta_seconds",
        "memory_gb",
        "memory_share",
        "metrics",
    ]


def test_a_lost_loss_is_null(log, path, entry):
    log.write(dataclasses.replace(entry, loss=math.nan, grad_norm=math.inf))

    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()
    assert read_log(path)[0]["loss"] is None


def test_cutting_back_forgets_what_came_after_the_step(log, path, entry):
    for step in (10, 20, 30):
        log.write(dataclasses.replace(entry, step=step, tokens=step * 100))
        log.write(EvaluationEntry(step, 400, None, 1.0))

    last = log.cut_back(20)

    assert steps(path) == [10, 10, 20, 20]
    assert (last["event"], last["step"], last["tokens"]) == ("training", 20, 2000)


def test_the_log_goes_on_behind_the_cut(log, path, entry):
    for step in (10, 20):
        log.write(dataclasses.replace(entry, step=step))
    log.cut_back(10)
    log.write(dataclasses.replace(entry, step=20, loss=9.0))

    assert steps(path) == [10, 20]
    assert read_log(path)[-1]["loss"] == 9.0


def test_half_a_line_of_a_killed_run_does_not_spoil_the_next(log, path, entry):
    log.write(entry)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])

    log.cut_back(50)
    log.write(dataclasses.replace(entry, step=60))

    assert steps(path) == [50, 60]
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("line", [b"[1]", b"{}", b'{"step": "5"}', b"\xff", b"", b"nothing"])
def test_what_is_no_entry_is_passed_over(path, line):
    path.write_bytes(b'{"step": 1}\n' + line + b"\n")

    assert steps(path) == [1]


def test_without_a_log_there_is_nothing_to_cut_or_clear(log, path):
    assert log.cut_back(10) is None
    log.clear()
    assert not path.exists()


def test_before_the_first_entry_of_training_there_is_no_last_one(log):
    log.write(EvaluationEntry(0, 400, None, 5.0))

    assert log.cut_back(10) is None


def test_clearing_forgets_everything(log, path, entry):
    log.write(entry)
    log.clear()

    assert not path.exists()
