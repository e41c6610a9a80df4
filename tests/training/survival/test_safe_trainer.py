"""Training that is stopped in every polite way goes on as if nothing had happened."""

import json
import math
import os
import signal

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny():
    from tests.training.survival import tiny_run

    return tiny_run


@pytest.fixture(autouse=True, scope="module")
def without_waiting_for_the_disk():
    """What is synced, and when, is tested with the store; a busy disk would take minutes here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A run without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    return tiny.run_tiny(folder), tiny.weights(folder)


EVALUATED = {
    "eval_strategy": "steps",
    "eval_steps": 4,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": False,
}


def curve(trainer):
    """The log without what only the clock decides."""
    clock = ("_runtime", "_per_second")
    return [
        {name: value for name, value in entry.items() if not name.endswith(clock)}
        for entry in trainer.state.log_history
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_returns(tiny, tmp_path, number):
    trainer = tiny.run_tiny(tmp_path, callbacks=[tiny.signal_in(4, number)])

    assert trainer.stopped_by == number
    assert trainer.state.global_step == 5
    assert (tmp_path / "checkpoint-5").is_dir()
    assert json.loads((tmp_path / "run.json").read_text())["state"] == "stopped"


# in an epoch, at its end (ten steps), right after a planned checkpoint, and in the last step
@pytest.mark.parametrize("steps", [[1], [4, 8], [9], [11]])
def test_a_resumed_run_ends_like_one_without_interruption(tiny, tmp_path, whole, steps):
    for step in steps:
        stopped = tiny.run_tiny(tmp_path, callbacks=[tiny.signal_in(step, signal.SIGTERM)])
        assert stopped.state.global_step == step + 1

    resumed = tiny.run_tiny(tmp_path)

    assert tiny.weights(tmp_path) == whole[1]
    assert curve(resumed) == curve(whole[0])
    assert resumed.result.training_loss == whole[0].result.training_loss


def test_training_changes_the_weights_so_that_equal_ones_say_something(tiny, tmp_path, whole):
    tiny.run_tiny(tmp_path, max_steps=11)

    assert tiny.weights(tmp_path) != whole[1]


def test_the_time_of_a_resumed_run_is_that_of_all_its_parts(tiny, tmp_path):
    class Long(tiny.TinyTrainer):
        def _take_up(self):
            super()._take_up()
            self._began -= 1000

    stop = tiny.signal_in(4, signal.SIGTERM)
    tiny.run_tiny(tmp_path, trainer=Long, callbacks=[stop])

    resumed = tiny.run_tiny(tmp_path)

    assert resumed.result.metrics["train_runtime"] > 1000
    assert resumed.result.metrics["train_steps_per_second"] == pytest.approx(12 / 1000)


def test_evaluations_do_not_change_what_is_learned(tiny, tmp_path, whole):
    tiny.run_tiny(tmp_path, **EVALUATED)

    assert tiny.weights(tmp_path) == whole[1]


def test_an_evaluation_put_off_by_a_signal_is_made_up_for(tiny, tmp_path):
    whole = tiny.run_tiny(tmp_path / "whole", **EVALUATED)
    stop = tiny.signal_in(3, signal.SIGTERM)

    stopped = tiny.run_tiny(tmp_path / "cut", callbacks=[stop], **EVALUATED)
    resumed = tiny.run_tiny(tmp_path / "cut", **EVALUATED)

    assert not [entry for entry in stopped.state.log_history if "eval_loss" in entry]
    assert [entry["step"] for entry in curve(resumed) if "eval_loss" in entry] == [4, 8, 12]
    assert curve(resumed) == curve(whole)
    assert tiny.weights(tmp_path / "cut") == tiny.weights(tmp_path / "whole")


def test_the_best_is_saved_marked_and_kept_whatever_the_interval(tiny, tmp_path):
    class Judged(tiny.TinyTrainer):
        def evaluate(self, **_):
            return {"eval_loss": {2: 3.0, 4: 1.0}.get(self.state.global_step, 2.0)}

    settings = {**EVALUATED, "eval_steps": 2}  # saved are 3, 6, 9, 12
    trainer = tiny.run_tiny(tmp_path, trainer=Judged, **settings)

    assert trainer._run.checkpoints.best() == tmp_path / "checkpoint-4"
    assert trainer._run.checkpoints.steps() == [4, 9, 12]


def test_a_run_that_is_trained_but_not_finished_takes_no_further_step(tiny, tmp_path, whole):
    from training.survival.run_folder import RunFolder

    with RunFolder.open(tmp_path, {"recipe": "tiny"}) as run:
        tiny.make_trainer(run).train()  # and killed while the adapter was judged

    again = tiny.run_tiny(tmp_path, callbacks=[tiny.Act(12, lambda: pytest.fail("a 13th step"))])

    assert tiny.weights(tmp_path) == whole[1]
    assert again.state.global_step == 12


def test_a_run_that_stopped_early_for_good_does_not_train_on(tiny, tmp_path):
    class Enough(tiny.TrainerCallback):
        def on_evaluate(self, args, state, control, **_):
            control.should_training_stop = state.global_step == 8

    from training.survival.run_folder import RunFolder

    with RunFolder.open(tmp_path, {"recipe": "tiny"}) as run:
        tiny.make_trainer(run, callbacks=[Enough()], **EVALUATED).train()

    again = tiny.run_tiny(tmp_path, callbacks=[Enough()], **EVALUATED)

    assert again.state.global_step == 8


def test_intervals_may_be_changed_on_the_way(tiny, tmp_path, whole):
    tiny.run_tiny(tmp_path, callbacks=[tiny.signal_in(4, signal.SIGTERM)])

    resumed = tiny.run_tiny(tmp_path, save_steps=2, logging_steps=4)

    assert tiny.weights(tmp_path) == whole[1]
    assert resumed.state.save_steps == 2
    assert [entry["step"] for entry in resumed.state.log_history if "loss" in entry] == [5, 8, 12]


def test_a_checkpoint_holds_what_is_trained_as_it_is_in_memory(tiny, tmp_path, whole):
    import torch
    from safetensors.torch import load_file

    trainer, _ = whole
    saved = load_file(trainer._run.path / "checkpoint-12" / tiny.WEIGHTS)

    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert max(len(tensor) for tensor in saved.values()) < 2048  # no copy of the embedding
    rows = next(tensor for name, tensor in saved.items() if "trainable_tokens" in name)
    trained = dict(trainer.model.named_parameters())
    name = next(name for name in trained if "trainable_tokens" in name)
    assert torch.equal(rows, trained[name].data)


def test_a_truncated_checkpoint_is_quarantined_and_the_one_before_it_taken(
    tiny, tmp_path, whole, caplog
):
    tiny.run_tiny(tmp_path, callbacks=[tiny.signal_in(7, signal.SIGTERM)])
    damaged = tmp_path / "checkpoint-8" / "optimizer.pt"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    steps = []

    tiny.run_tiny(tmp_path, callbacks=[tiny.Act(6, lambda: steps.append(6))])

    assert steps == [6]
    assert tiny.weights(tmp_path) == whole[1]
    assert "optimizer.pt has" in caplog.text
    assert (tmp_path / "quarantine" / "checkpoint-8").is_dir()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_it_does_harm(tiny, tmp_path, value):
    from training.survival.divergence import DivergedError
    from training.survival.run_folder import RunFolder

    class Poisoned(tiny.TinyTrainer):
        def compute_loss(self, model, inputs, **options):
            poisoned = (inputs["input_ids"] == 100 + 17).any() and self.state.global_step > 5
            loss = super().compute_loss(model, inputs, **options)
            return loss * value if poisoned else loss

    with RunFolder.open(tmp_path, {"recipe": "tiny"}) as run:
        trainer = tiny.make_trainer(run, trainer=Poisoned, micro_batch_size=2, max_steps=20)
        with pytest.raises(DivergedError, match="loss is not a finite number") as stop:
            trainer.train()

    rows = str(stop.value).partition("counted from 1: ")[2].partition(";")[0].split(", ")
    assert "17" in rows
    assert len(rows) == 4
    assert "try 0.0005" in str(stop.value)
    kept = run.checkpoints.newest()
    assert str(kept) in str(stop.value)
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_out_of_memory_goes_on_from_the_newest_checkpoint_with_half_the_rows(tiny, tmp_path):
    import torch

    from training.survival.out_of_memory import with_fitting_micro_batch
    from training.survival.run_folder import RunFolder

    taken = []

    class Small(tiny.TinyTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            taken.append(self.state.global_step)
            if self.state.global_step == 4 and self.args.per_device_train_batch_size > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().training_step(model, inputs, num_items_in_batch)

    tiny.run_tiny(tmp_path / "whole", dropout=0.0)
    with RunFolder.open(tmp_path / "small", {"recipe": "tiny"}) as run:

        def attempt(rows):
            trainer = tiny.make_trainer(run, micro_batch_size=rows, trainer=Small, dropout=0.0)
            trainer.train()
            return trainer

        trainer = with_fitting_micro_batch(attempt, 4)

    assert trainer.args.per_device_train_batch_size == 2
    assert taken == [0, 1, 2, 3, 4, *(step for step in range(3, 12) for _ in range(2))]
    from safetensors.torch import load_file

    expected = load_file(tmp_path / "whole" / "done" / tiny.WEIGHTS)
    for name, tensor in load_file(tmp_path / "small" / "checkpoint-12" / tiny.WEIGHTS).items():
        assert torch.allclose(tensor, expected[name], atol=1e-4), name
