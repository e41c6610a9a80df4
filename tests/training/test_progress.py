import pytest
from transformers import TrainerControl, TrainerState

from training.progress import ProgressBar


class Run:
    """Tells a bar about a run of ten steps, as the trainer of transformers does."""

    def __init__(self):
        self.bar = ProgressBar()
        self.state = TrainerState(max_steps=10)

    def tell(self, event, **values):
        getattr(self.bar, f"on_{event}")(None, self.state, TrainerControl(), **values)

    def step_to(self, step):
        self.state.global_step = step
        self.tell("step_end")


@pytest.fixture
def run():
    run = Run()
    yield run
    run.tell("train_end")


@pytest.fixture
def shown(capsys):
    """The last state of the bar on the screen."""
    return lambda: capsys.readouterr().err.split("\r")[-1].strip()


def test_the_bar_appears_when_training_begins(run, shown):
    assert shown() == ""
    run.tell("train_begin")
    assert shown().startswith("training:   0%")


def test_the_bar_is_finished_with_the_last_step(run, shown):
    run.tell("train_begin")
    for step in range(1, 11):
        run.step_to(step)
    run.tell("train_end")
    last = shown()
    assert last.startswith("training: 100%")
    assert "10/10" in last


def test_the_bar_follows_the_trainer_even_over_a_gap(run, shown):
    run.tell("train_begin")
    run.step_to(3)
    run.step_to(7)
    run.tell("train_end")
    assert "7/10" in shown()


def test_the_bar_shows_the_latest_loss(run, shown):
    run.tell("train_begin")
    run.tell("log", logs={"loss": 3.14159})
    run.tell("log", logs={"loss": "2.71828", "epoch": 1})
    assert "loss=2.718" in shown()


@pytest.mark.parametrize("values", [{}, {"logs": None}, {"logs": {"eval_loss": 1.5}}])
def test_a_log_entry_without_loss_changes_nothing(run, shown, values):
    run.tell("train_begin")
    run.tell("log", logs={"loss": 1.0})
    run.tell("log", **values)
    assert "loss=1.000" in shown()


@pytest.mark.parametrize("event", ["step_end", "log", "train_end"])
def test_events_before_the_beginning_show_nothing(run, shown, event):
    run.tell(event)
    assert shown() == ""
