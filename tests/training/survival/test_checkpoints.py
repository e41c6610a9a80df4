"""The store of checkpoints, with files of a few bytes."""

import errno
import json
import logging
import os

import pytest

from training.survival.checkpoints import SEAL_NAME, CheckpointStore, checkpoint_problems


def store(folder, keep=2, free=10**9):
    return CheckpointStore(folder, keep, free_bytes=lambda _: free)


def write(text="weights"):
    def fill(folder):
        (folder / "model").write_text(text)
        (folder / "inner").mkdir()
        (folder / "inner" / "state").write_text("state")

    return fill


def save(checkpoints, *steps):
    return [checkpoints.save(step, write(f"weights of {step}")) for step in steps]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_saved_checkpoint_is_whole_and_the_newest(tmp_path):
    checkpoints = store(tmp_path)

    saved = checkpoints.save(3, write())

    assert saved == tmp_path / "checkpoint-3" == checkpoints.newest()
    assert (saved / "model").read_text() == "weights"
    assert checkpoint_problems(saved) == []


def test_nothing_stands_under_the_final_name_before_every_byte_is_written(tmp_path):
    seen = []

    def look(folder):
        write()(folder)
        seen.extend(names(tmp_path))

    store(tmp_path).save(3, look)

    assert "checkpoint-3" not in seen
    assert names(tmp_path) == ["checkpoint-3"]


def test_every_file_and_folder_is_synced_and_last_the_one_that_holds_the_new_name(
    tmp_path, monkeypatch
):
    synced = []

    def sync(descriptor):
        there = (tmp_path / "checkpoint-3").exists()
        synced.append((os.fstat(descriptor).st_ino, there))

    monkeypatch.setattr(os, "fsync", sync)

    saved = store(tmp_path).save(3, write())

    inside = [saved, *saved.rglob("*")]
    assert len(inside) == 5
    assert {(path.stat().st_ino, False) for path in inside} <= set(synced)
    assert synced[-1] == (tmp_path.stat().st_ino, True)


def test_the_newest_stay_and_older_ones_go(tmp_path):
    checkpoints = store(tmp_path, keep=2)

    save(checkpoints, 9, 10, 100)

    assert checkpoints.steps() == [10, 100]


def test_the_best_never_goes_until_another_is_the_best(tmp_path):
    checkpoints = store(tmp_path, keep=2)
    save(checkpoints, 1)
    checkpoints.mark_best(1)
    save(checkpoints, 2, 3, 4)
    assert checkpoints.steps() == [1, 3, 4]
    assert checkpoints.best() == tmp_path / "checkpoint-1"

    checkpoints.mark_best(4)

    assert checkpoints.steps() == [3, 4]
    assert checkpoints.best() == tmp_path / "checkpoint-4"


def test_without_checkpoints_there_is_no_newest_and_no_best(tmp_path):
    checkpoints = store(tmp_path / "not there yet")

    assert checkpoints.newest() is None
    assert checkpoints.best() is None
    assert checkpoints.steps() == []


@pytest.mark.parametrize("name", ["model", "inner/state"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, not"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"), "was changed"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_a_damaged_checkpoint_is_quarantined_and_the_one_before_it_taken(
    tmp_path, caplog, name, damage, reason
):
    checkpoints = store(tmp_path)
    save(checkpoints, 1, 2)
    damage(tmp_path / "checkpoint-2" / name)

    with caplog.at_level(logging.WARNING):
        newest = checkpoints.newest()

    assert newest == tmp_path / "checkpoint-1"
    assert names(tmp_path / "quarantine") == ["checkpoint-2"]
    assert name.rpartition("/")[2] in caplog.text
    assert reason in caplog.text


@pytest.mark.parametrize("seal", [None, "", "[]", '{"step": 2}', '{"step": 1, "files": {}}'])
def test_a_folder_without_a_readable_seal_of_its_own_is_no_checkpoint(tmp_path, seal):
    checkpoints = store(tmp_path)
    save(checkpoints, 2)
    path = tmp_path / "checkpoint-2" / SEAL_NAME
    path.unlink() if seal is None else path.write_text(seal)

    assert checkpoints.newest() is None
    assert names(tmp_path / "quarantine") == ["checkpoint-2"]


def test_two_damaged_checkpoints_of_one_step_both_stay_in_quarantine(tmp_path):
    checkpoints = store(tmp_path)
    for _ in range(2):
        save(checkpoints, 2)
        (tmp_path / "checkpoint-2" / "model").unlink()
        assert checkpoints.newest() is None

    assert names(tmp_path / "quarantine") == ["checkpoint-2", "checkpoint-2.2"]


def test_a_damaged_best_is_none(tmp_path):
    checkpoints = store(tmp_path)
    save(checkpoints, 1, 2)
    checkpoints.mark_best(1)
    (tmp_path / "checkpoint-1" / "model").unlink()

    assert checkpoints.best() is None
    assert checkpoints.newest() == tmp_path / "checkpoint-2"


def test_a_whole_checkpoint_of_a_repeated_step_stays(tmp_path):
    checkpoints = store(tmp_path)
    save(checkpoints, 2)

    checkpoints.save(2, lambda _: pytest.fail("was written again"))

    assert checkpoints.newest() == tmp_path / "checkpoint-2"


def test_a_damaged_checkpoint_of_a_repeated_step_is_replaced(tmp_path):
    checkpoints = store(tmp_path)
    save(checkpoints, 2)
    (tmp_path / "checkpoint-2" / "model").write_text("rubbish")

    checkpoints.save(2, write("new"))

    assert (checkpoints.newest() / "model").read_text() == "new"
    assert names(tmp_path / "quarantine") == ["checkpoint-2"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_a_checkpoint_that_cannot_be_written_leaves_nothing_and_takes_nothing(tmp_path, error):
    checkpoints = store(tmp_path, keep=1)
    save(checkpoints, 1)

    def fail(folder):
        write()(folder)
        raise error

    with pytest.raises(type(error)):
        checkpoints.save(2, fail)

    assert names(tmp_path) == ["checkpoint-1"]
    assert checkpoints.newest() == tmp_path / "checkpoint-1"


def test_too_little_space_is_told_in_numbers_before_anything_is_written(tmp_path):
    [first] = save(store(tmp_path), 1)
    (first / "ballast").write_bytes(b"0" * 10_000_000)

    with pytest.raises(OSError, match=r"needs 12\.0 MB and 11\.9 MB are free") as refusal:
        store(tmp_path, free=11_900_000).save(2, lambda _: pytest.fail("was written"))

    assert refusal.value.errno == errno.ENOSPC
    store(tmp_path, free=12_100_000).save(2, write())


def test_leftovers_of_a_process_that_died_are_removed(tmp_path):
    checkpoints = store(tmp_path)
    save(checkpoints, 1)
    for leftover in (".unfinished-checkpoint-2", ".unfinished-old-checkpoint-0"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "model").write_text("half")

    checkpoints.remove_unfinished()

    assert names(tmp_path) == ["checkpoint-1"]


def test_leftovers_do_not_get_into_a_new_checkpoint_of_that_step(tmp_path):
    leftover = tmp_path / ".unfinished-checkpoint-2"
    leftover.mkdir()
    (leftover / "old").write_text("half")

    store(tmp_path).save(2, write())

    assert "old" not in names(tmp_path / "checkpoint-2")


def test_rotation_that_dies_half_way_leaves_no_half_checkpoint(tmp_path, monkeypatch):
    import shutil

    checkpoints = store(tmp_path, keep=1)
    save(checkpoints, 1)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # dies before it removes

    save(checkpoints, 2)

    assert checkpoints.steps() == [2]


def test_clearing_removes_checkpoints_best_and_quarantine_and_nothing_else(tmp_path):
    checkpoints = store(tmp_path)
    save(checkpoints, 1, 2, 3)
    checkpoints.mark_best(2)
    (tmp_path / "checkpoint-3" / "model").unlink()
    checkpoints.newest()
    (tmp_path / "log.jsonl").write_text("")

    checkpoints.clear()

    assert names(tmp_path) == ["log.jsonl"]


def test_the_seal_lists_every_file_with_size_and_digest(tmp_path):
    [saved] = save(store(tmp_path), 7)

    seal = json.loads((saved / SEAL_NAME).read_text())

    assert seal["step"] == 7
    assert set(seal["files"]) == {"model", "inner/state"}
    assert seal["files"]["inner/state"]["size"] == 5
    assert len(seal["files"]["model"]["sha256"]) == 64
