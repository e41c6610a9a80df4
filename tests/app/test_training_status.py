import json
import os
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from app import create_app
from app.config import WebConfig
from app.training_status import MOST_BYTES
from tests.fakes import FakeEngine

NOW = datetime.now(UTC).replace(microsecond=0)
RUN = {
    "state": "running",
    "name": "mistral",
    "step": 30,
    "total_steps": 100,
    "loss": 1.25,
    "eta_seconds": 70.5,
    "memory_gb": 6.6,
    "updated": NOW.isoformat(),
}
IDLE = {"state": "idle"}


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def ask(runs):
    """The status as JSON."""
    client = create_app(FakeEngine(), WebConfig(runs_folder=runs)).test_client()

    def send():
        response = client.get("/api/training/status")
        assert (response.status_code, response.mimetype) == (200, "application/json")
        text = response.get_data(as_text=True)
        return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    return send


@pytest.fixture
def write(runs):
    """Writes the status file of a run that was last changed so many seconds ago."""

    def save(content, run="pocket", age_seconds=0):
        file = runs / run / "status.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        file.write_bytes(content)
        moment = time.time() - age_seconds
        os.utime(file, (moment, moment))
        return file

    return save


# A run


@pytest.mark.parametrize("state", ["running", "finished", "failed"])
def test_the_status_is_what_the_trainer_wrote(ask, write, state):
    write({**RUN, "state": state})
    assert ask() == {**RUN, "state": state}


def test_the_keys_are_frozen(ask, write):
    write(RUN)
    assert list(ask()) == list(RUN)


def test_what_the_trainer_does_not_know_is_null(ask, write):
    write({"state": "finished"})
    assert ask() == {**dict.fromkeys(RUN), "state": "finished"}


def test_whatever_else_the_trainer_writes_is_left_out(ask, write):
    write({**RUN, "learning_rate": 0.0002, "path": "/secret"})
    assert ask() == RUN


def test_a_loss_that_is_no_number_any_more_is_null(ask, write):
    write({**RUN, "loss": float("nan"), "eta_seconds": float("inf")})
    assert ask() == {**RUN, "loss": None, "eta_seconds": None}


@pytest.mark.parametrize(
    "updated",
    [
        NOW.timestamp(),
        int(NOW.timestamp()),
        NOW.replace(tzinfo=None).isoformat(),
        NOW.isoformat().replace("+00:00", "Z"),
        NOW.astimezone(timezone(timedelta(hours=9))).isoformat(),
    ],
    ids=["seconds", "whole seconds", "no zone", "Z", "another zone"],
)
def test_every_usual_way_to_write_a_moment_is_understood(ask, write, updated):
    write({**RUN, "updated": updated})
    assert ask() == RUN


def test_a_moment_without_a_zone_is_in_utc_wherever_the_server_stands(ask, write, monkeypatch):
    monkeypatch.setenv("TZ", "UTC-9")
    time.tzset()
    try:
        write({**RUN, "updated": NOW.replace(tzinfo=None).isoformat()})
        assert ask() == RUN
    finally:
        monkeypatch.undo()
        time.tzset()


# The newest run


def test_the_run_written_last_is_reported(ask, write):
    write({**RUN, "name": "a"}, run="a", age_seconds=60)
    write({**RUN, "name": "b"}, run="b", age_seconds=20)
    write({**RUN, "name": "c"}, run="c", age_seconds=40)
    assert ask()["name"] == "b"


def test_the_next_step_of_a_run_is_seen(ask, write):
    write(RUN)
    before = ask()["step"]
    write({**RUN, "step": 31})
    assert (before, ask()["step"]) == (30, 31)


def test_files_of_other_names_and_at_other_depths_are_no_status(ask, runs, write):
    write(RUN, run="a/b")
    (runs / "status.json").write_text(json.dumps(RUN))
    (runs / "a" / "status.json.tmp").write_text(json.dumps(RUN))
    assert ask() == IDLE


# A run that died


def moment(age_seconds):
    return (datetime.now(UTC) - timedelta(seconds=age_seconds)).isoformat()


def test_a_run_that_says_nothing_for_over_five_minutes_is_stale(ask, write):
    write({**RUN, "updated": moment(301)})
    assert ask()["state"] == "stale"


def test_a_stale_run_keeps_its_figures(ask, write):
    write({**RUN, "updated": "2026-01-01T00:00:00+00:00"})
    assert ask() == {**RUN, "state": "stale", "updated": "2026-01-01T00:00:00+00:00"}


def test_a_run_that_wrote_within_five_minutes_is_running(ask, write):
    write({**RUN, "updated": moment(200)})
    assert ask()["state"] == "running"


@pytest.mark.parametrize(("age_seconds", "state"), [(200, "running"), (301, "stale")])
def test_a_run_without_a_moment_is_as_old_as_its_file(ask, write, age_seconds, state):
    write({**RUN, "updated": None}, age_seconds=age_seconds)
    assert ask()["state"] == state


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_a_run_that_is_over_never_grows_stale(ask, write, state):
    write({**RUN, "state": state, "updated": moment(10**7)}, age_seconds=10**7)
    assert ask()["state"] == state


# No run, or none that can be read


def test_a_server_without_runs_is_idle(ask):
    assert ask() == IDLE


def test_an_empty_folder_of_runs_is_idle(ask, runs):
    (runs / "pocket").mkdir(parents=True)
    assert ask() == IDLE


def test_a_file_in_place_of_the_folder_is_idle(ask, runs):
    runs.write_text("")
    assert ask() == IDLE


UNREADABLE = {
    "nothing": b"",
    "half written": json.dumps(RUN).encode()[:40],
    "no JSON": b"step 30 of 100",
    "no object": b"[1, 2]",
    "no state": b"{}",
    "null": b"null",
    "unknown state": b'{"state": "dancing"}',
    "a state that is only concluded": b'{"state": "stale"}',
    "text for a number": b'{"state": "running", "step": "30"}',
    "overflow": b'{"state": "running", "loss": 1e999}',
    "no moment": b'{"state": "running", "updated": "yesterday"}',
    "moment out of range": b'{"state": "running", "updated": 1e300}',
    "moment before all zones": b'{"state": "running", "updated": "0001-01-01T00:00:00+23:00"}',
    "not UTF-8": b'{"state": "running", "name": "\xff"}',
    "deep": b"[" * 30_000,
    "digits": b'{"state": "running", "step": ' + b"9" * 5_000 + b"}",
    "too large": json.dumps({**RUN, "more": "a" * MOST_BYTES}).encode(),
}
each_unreadable = pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)


@each_unreadable
def test_a_file_that_is_no_status_counts_for_nothing(ask, write, content):
    write(content)
    assert ask() == IDLE


@each_unreadable
def test_a_file_that_is_no_status_hides_no_other_run(ask, write, content):
    write(RUN, run="good", age_seconds=60)
    write(content, run="bad")
    assert ask() == RUN


def test_things_that_are_no_files_count_for_nothing(ask, runs, write):
    write(RUN, run="good", age_seconds=60)
    (runs / "folder" / "status.json").mkdir(parents=True)
    for run in ("link", "loop", "pipe"):
        (runs / run).mkdir()
    (runs / "link" / "status.json").symlink_to("nowhere")
    (runs / "loop" / "status.json").symlink_to("status.json")
    os.mkfifo(runs / "pipe" / "status.json")  # reading it would wait for ever
    assert ask() == RUN


def test_asking_generates_nothing_and_changes_nothing(ask, write):
    file = write(RUN)
    before = file.read_bytes()
    ask()
    assert file.read_bytes() == before
