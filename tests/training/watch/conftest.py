"""A run to watch: the events of a trainer without one, and a real trainer of a tiny model."""

import dataclasses
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from training.config import TrainConfig
from training.watch.entries import TrainingEntry
from training.watch.run_watch import RunWatch


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds

    def tick(self, seconds):
        self.seconds += seconds


class Screen(io.StringIO):
    """A terminal of a hundred columns that remembers."""

    def isatty(self):
        return True

    def last_line(self):
        return self.getvalue().split("\r")[-1].strip()


class Run:
    """Tells callbacks about a run of ten steps, as the trainer of transformers does."""

    def __init__(self, watch, total_steps=10):
        self.watch = watch
        self.callbacks = [watch]
        self.state = TrainerState(max_steps=total_steps, is_world_process_zero=True)
        self.control = TrainerControl()
        self.arguments = SimpleNamespace(device=SimpleNamespace(type="cpu"))

    def tell(self, event, **values):
        for callback in self.callbacks:
            getattr(callback, f"on_{event}")(self.arguments, self.state, self.control, **values)

    def step_to(self, step):
        self.state.global_step = step
        self.tell("step_begin")
        self.tell("step_end")

    def log(self, **logs):
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.tell("log", logs=logs)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def screen():
    return Screen()


@pytest.fixture
def entry():
    return TrainingEntry(
        step=50,
        total_steps=400,
        epoch=0.5,
        loss=2.3412,
        learning_rate=1.9e-4,
        grad_norm=1.5,
        tokens=62_000,
        tokens_per_second=1240.4,
        seconds=50.0,
        eta_seconds=200.4,
        memory_gb=11.2,
        memory_share=0.466,
    )


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    return TrainConfig(
        name="tiny", base_model="none", train_data="none", runs=tmp_path, output=tmp_path / "out"
    )


@pytest.fixture
def lines():
    """What a file or a container would collect."""
    return io.StringIO()


@pytest.fixture
def begin(config, lines):
    """Begins a watched run; further settings of the run as keywords."""

    def begin(stream=lines, is_main_process=True, **settings) -> Run:
        changed = dataclasses.replace(config, **settings)
        return Run(RunWatch(changed, is_main_process=is_main_process, stream=stream))

    return begin


@pytest.fixture
def folder(config) -> Path:
    return config.run_folder
