"""A run's folder: who may work in it, and whether a run goes on or begins anew."""

import dataclasses
import json
import os
import signal

import pytest

from adapters.styles import STYLES
from training.config import TrainConfig
from training.survival.run_folder import FREE_SETTINGS, RunFolder, RunStoppedError, fingerprint

RECIPE = {"learning_rate": 0.1, "seed": 20}


@dataclasses.dataclass
class Clock:
    now: float = 0.0

    def __call__(self):
        return self.now


def begin(path, fingerprint=RECIPE, **options):
    """A run that ends without having finished, with a checkpoint."""
    with RunFolder.open(path, fingerprint, **options) as run:
        run.checkpoints.save(1, lambda folder: (folder / "model").write_text("weights"))


def record(path):
    return json.loads((path / "run.json").read_text())


def test_a_second_trainer_is_told_who_is_at_work_and_where(tmp_path):
    with (
        RunFolder.open(tmp_path, RECIPE),
        pytest.raises(ValueError, match=rf"process {os.getpid()}\) is at work in {tmp_path}"),
    ):
        RunFolder.open(tmp_path, RECIPE)


def test_a_closed_run_lets_the_next_trainer_in(tmp_path):
    begin(tmp_path)

    begin(tmp_path)


def test_a_run_that_could_not_begin_lets_the_next_trainer_in(tmp_path):
    begin(tmp_path)
    with pytest.raises(ValueError, match="depends on something else"):
        RunFolder.open(tmp_path, {**RECIPE, "seed": 21})

    begin(tmp_path)


def test_an_unfinished_run_goes_on_with_its_checkpoints_and_its_time(tmp_path):
    clock = Clock()
    with RunFolder.open(tmp_path, RECIPE, clock=clock) as run:
        run.checkpoints.save(1, lambda folder: None)
        clock.now = 60.0
        assert run.seconds_used == 60.0

    clock.now = 1000.0
    with RunFolder.open(tmp_path, RECIPE, clock=clock) as run:
        clock.now = 1005.0
        assert run.starts == 2
        assert run.seconds_used == 65.0
        assert run.checkpoints.steps() == [1]


def test_after_a_crash_time_counts_from_the_last_note(tmp_path):
    clock = Clock()
    run = RunFolder.open(tmp_path, RECIPE, clock=clock)
    clock.now = 60.0
    run.note_time()
    clock.now = 70.0
    run._lock.close()  # what the system does when a process dies

    with RunFolder.open(tmp_path, RECIPE, clock=clock) as run:
        assert run.seconds_used == 60.0


def test_a_finished_run_begins_anew(tmp_path):
    clock = Clock()
    with RunFolder.open(tmp_path, RECIPE, clock=clock) as run:
        run.checkpoints.save(1, lambda folder: None)
        clock.now = 60.0
        run.finish()
    assert record(tmp_path)["state"] == "finished"

    with RunFolder.open(tmp_path, {"seed": 21}, clock=clock) as run:
        assert run.starts == 1
        assert run.seconds_used == 0.0
        assert run.checkpoints.steps() == []
    assert record(tmp_path)["fingerprint"] == {"seed": 21}


def test_an_unfinished_run_with_other_settings_lists_all_of_them(tmp_path):
    begin(tmp_path)

    with pytest.raises(ValueError, match="--fresh") as refusal:
        RunFolder.open(tmp_path, {"learning_rate": 0.2, "epochs": 3})

    assert "learning_rate: 0.1 -> 0.2" in str(refusal.value)
    assert "seed: 20 -> (none)" in str(refusal.value)
    assert "epochs: (none) -> 3" in str(refusal.value)
    begin(tmp_path)  # the checkpoints are still there
    assert (tmp_path / "checkpoint-1").is_dir()


def test_fresh_discards_whatever_is_there(tmp_path):
    begin(tmp_path)

    with RunFolder.open(tmp_path, {"seed": 21}, fresh=True) as run:
        assert run.starts == 1
        assert run.checkpoints.steps() == []


@pytest.mark.parametrize("text", [None, "{", "[]", '{"state": "running"}'])
def test_checkpoints_of_an_unknown_run_are_neither_used_nor_thrown_away(tmp_path, text):
    begin(tmp_path)
    path = tmp_path / "run.json"
    path.unlink() if text is None else path.write_text(text)

    with pytest.raises(ValueError, match="--fresh"):
        RunFolder.open(tmp_path, RECIPE)

    assert (tmp_path / "checkpoint-1").is_dir()
    begin(tmp_path, fresh=True)


def test_leftovers_of_a_killed_process_are_removed_when_a_run_opens(tmp_path):
    (tmp_path / ".unfinished-checkpoint-4").mkdir()

    begin(tmp_path)

    assert not list(tmp_path.glob(".unfinished*"))


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RunStoppedError(signal.SIGTERM, "runs/x"), "stopped"),
        (KeyboardInterrupt(), "stopped"),
        (RuntimeError("boom"), "failed"),
    ],
)
def test_how_a_run_ended_is_written_down_and_it_can_go_on(tmp_path, error, state):
    with pytest.raises(type(error)), RunFolder.open(tmp_path, RECIPE):
        raise error

    assert record(tmp_path)["state"] == state
    assert record(tmp_path)["detail"] == str(error)
    with RunFolder.open(tmp_path, RECIPE) as run:
        assert run.starts == 2
        assert record(tmp_path)["state"] == "running"
        assert record(tmp_path)["detail"] == ""
        assert record(tmp_path)["pid"] == os.getpid()


def test_a_finished_run_stays_finished_when_it_is_closed(tmp_path):
    with RunFolder.open(tmp_path, RECIPE) as run:
        run.finish()

    assert record(tmp_path)["state"] == "finished"


def test_book_keeping_that_fails_does_not_stop_training(tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError("disk full")

    with RunFolder.open(tmp_path, RECIPE) as run:
        monkeypatch.setattr("training.survival.run_folder.replace_text", fail)
        run.note_time()

    assert "disk full" in caplog.text
    with pytest.raises(OSError, match="disk full"):
        RunFolder.open(tmp_path, RECIPE)  # but no run begins unrecorded


def test_the_message_of_a_stopped_run_says_how_to_go_on():
    error = RunStoppedError(signal.SIGINT, "runs/pocket")

    assert error.exit_code == 130
    assert "SIGINT" in str(error)
    assert "runs/pocket" in str(error)


CONFIG = TrainConfig(name="tiny", base_model="base", train_data="rows.jsonl")
DATA = {"train_data": "ab12"}


def changed(**values):
    old = fingerprint(CONFIG, "base", DATA)
    new = fingerprint(dataclasses.replace(CONFIG, **values), "base", DATA)
    return {name for name in {*old, *new} if old.get(name) != new.get(name)}


def test_every_setting_that_may_differ_exists():
    names = {field.name for field in dataclasses.fields(TrainConfig)}

    assert set(FREE_SETTINGS) <= names
    # A new setting changes the result unless someone has thought about it.
    assert names - set(FREE_SETTINGS) == {
        "beta", "data_format", "device", "dora", "early_stopping_evaluations",
        "effective_batch_size", "epochs", "evaluate_steps", "hours", "learning_rate",
        "lora_alpha", "lora_dropout", "lora_init", "lora_r", "lr_scheduler", "max_grad_norm",
        "max_length", "max_steps", "method", "on_bad_row", "on_long_row", "optimizer",
        "padding_free", "quantization", "rope_factor", "rslora", "seed", "styles",
        "target_modules", "turns", "validation_share", "warmup_fraction", "weight_decay",
    }  # fmt: skip


def test_what_only_tells_of_a_run_or_secures_it_may_differ():
    assert not changed(
        name="other", logging_steps=1, save_steps=7, keep_checkpoints=9, micro_batch_size=2
    )


def test_what_changes_the_result_counts():
    assert changed(learning_rate=1.0, seed=1) == {"learning_rate", "seed"}


def test_a_change_within_a_style_is_told_of_that_value_alone():
    style = dataclasses.replace(
        STYLES[1], preset=dataclasses.replace(STYLES[1].preset, temperature=0.5)
    )

    assert changed(styles=(STYLES[0], style)) == {"styles.1.preset.temperature"}


def test_base_and_data_count_by_their_content():
    here = fingerprint(CONFIG, "base", DATA)

    assert fingerprint(CONFIG, "other base", DATA) != here
    assert fingerprint(CONFIG, "base", {"train_data": "cd34"}) != here
    moved = dataclasses.replace(CONFIG, base_model="elsewhere", train_data="copy.jsonl")
    assert fingerprint(moved, "base", DATA) == here


def test_the_adapter_to_start_from_counts_by_its_manifest(tmp_path):
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    config = dataclasses.replace(CONFIG, adapter=tmp_path)
    old = fingerprint(config, "base", DATA)

    manifest.write_text('{"other": 1}')

    assert fingerprint(config, "base", DATA) != old


def test_a_fingerprint_survives_being_written(tmp_path):
    given = fingerprint(CONFIG, "base", DATA)
    begin(tmp_path, given)

    begin(tmp_path, given)

    assert record(tmp_path)["fingerprint"] == given
