from pathlib import Path

from tests.training.shapes import MISTRAL_7B, settings
from training.resources.checkup.room import check_room, free_on_disk


def check(free_gb, **values):
    return check_room(settings(**values), MISTRAL_7B, lambda path: round(free_gb * 1e9))


def test_with_room_for_all_both_places_are_fine():
    findings = check(100)

    assert [finding.level for finding in findings] == ["ok", "ok"]
    assert "runs/tiny" in findings[0].text
    assert "adapters/store/tiny" in findings[1].text


def test_a_full_disk_is_a_problem_with_the_numbers():
    checkpoints, adapter = check(0.1, save_steps=10)

    assert checkpoints.level == "problem"
    # two kept, the best and the one being written, each of 42 million x 12 bytes
    assert "need up to 2.0 GB" in checkpoints.text
    assert "100 MB" in checkpoints.text or "0.1 GB" in checkpoints.text
    assert adapter.level == "problem"


def test_a_run_that_saves_once_needs_room_for_one_checkpoint():
    assert "need up to 0.5 GB" in check(100)[0].text


def test_more_kept_checkpoints_need_more_room():
    assert "need up to 5.1 GB" in check(100, save_steps=10, keep_checkpoints=8)[0].text


def test_room_is_looked_for_where_a_new_folder_will_be(tmp_path):
    assert free_on_disk(tmp_path / "not" / "there" / "yet") > 0
    assert free_on_disk(Path("/")) > 0
