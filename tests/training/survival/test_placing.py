import pytest

from training.survival.placing import clear_up, put_in_place


@pytest.fixture
def store(tmp_path):
    """What two killed runs have left, one of them between its last two renames."""
    for left in (".tiny-a/tiny", ".tiny-b/old", ".tiny-own/tiny", ".other-a/other"):
        folder = tmp_path / left
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(left)
    return tmp_path


def test_what_killed_runs_of_the_same_name_have_left_is_removed(store):
    (store / "tiny").mkdir()

    clear_up("tiny", store / "tiny", store / ".tiny-own")

    assert {path.name for path in store.iterdir()} == {"tiny", ".tiny-own", ".other-a"}


def test_an_adapter_that_was_out_of_the_way_comes_back(store):
    clear_up("tiny", store / "tiny", store / ".tiny-own")

    assert (store / "tiny" / "manifest.json").read_text() == ".tiny-b/old"


def test_an_adapter_that_is_in_its_place_stays(store):
    (store / "tiny").mkdir()
    (store / "tiny" / "manifest.json").write_text("new")

    clear_up("tiny", store / "tiny", store / ".tiny-own")

    assert (store / "tiny" / "manifest.json").read_text() == "new"


def test_a_finished_adapter_takes_the_place_of_an_older_one(store):
    (store / "tiny").mkdir()
    (store / "tiny" / "manifest.json").write_text("older")
    finished = store / ".tiny-own" / "tiny"
    (finished / "manifest.json").chmod(0o600)

    put_in_place(finished, store / "tiny")

    assert (store / "tiny" / "manifest.json").read_text() == ".tiny-own/tiny"
    assert (store / "tiny" / "manifest.json").stat().st_mode & 0o777 == 0o644
    assert list((store / ".tiny-own").iterdir()) == []
