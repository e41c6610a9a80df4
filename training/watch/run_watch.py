"""Everything that is shown and written while a run goes on, joined together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TextIO

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from adapters.prompts import PromptFormat
from training import plots
from training.budget import MOST_STEPS
from training.config import TrainConfig
from training.watch.device_memory import measure_memory
from training.watch.early_stopping import EarlyStopping
from training.watch.entries import Entry, TrainingEntry
from training.watch.evaluation import to_entry
from training.watch.log_file import LogFile, read_log
from training.watch.pace import Pace
from training.watch.samples import Conversation, StyleSamples
from training.watch.status_file import StatusFile
from training.watch.tensorboard import TensorBoardFiles
from training.watch.terminal import open_terminal

_OWN_METRICS = {"loss", "learning_rate", "grad_norm", "epoch", "num_tokens"}


class RunWatch(TrainerCallback):  # type: ignore[misc]
    """Watches a run from its first to its last moment; use it as a context manager around both.

    Leaving it writes the state `finished`, or `failed` with the error that ended the run. A disk
    that is full costs entries, never the run.
    """

    def __init__(
        self, config: TrainConfig, *, is_main_process: bool = True, stream: TextIO | None = None
    ) -> None:
        """Only the main process of a run shows and writes anything; people read `stream` (stderr).

        Raises:
            ValueError: TensorBoard files are wanted and its package is missing.
        """
        folder = config.run_folder
        self._config = config
        self._main = is_main_process
        self._pace = Pace()
        self._tokens_before = 0
        self._begun = False
        self._warned: set[str] = set()
        self._terminal = open_terminal(sys.stderr if stream is None else stream)
        self._log = LogFile(folder / "log.jsonl")
        self._status = StatusFile(folder / "status.json", config.name)
        self._tensorboard = TensorBoardFiles(folder / "tensorboard") if config.tensorboard else None

    def callbacks(
        self, prompt: PromptFormat, questions: Sequence[Conversation]
    ) -> list[TrainerCallback]:
        """For the trainer: this one, the answers to the first held-out questions, early stopping.

        Args:
            prompt: how the model is asked.
            questions: held-out conversations; `sample_prompts` of them that differ are asked.
        """
        found: list[TrainerCallback] = [self]
        asked = _first_different(questions, self._config.sample_prompts)
        if asked:
            found.append(StyleSamples(prompt, asked, self._config.styles, self.record))
        if self._config.early_stopping_evaluations > 0:
            found.append(EarlyStopping(self._config.early_stopping_evaluations, self.say))
        return found

    def say(self, text: str) -> None:
        """Show a line to people, above the progress bar."""
        if self._main:
            self._try(self._terminal.say, text)

    def record(self, entry: Entry) -> None:
        """Show an entry and write it wherever this run is written about."""
        if not self._main:
            return
        if not self._begun:  # an evaluation before the first step
            self._begin(entry.step)
        self._try(self._terminal.write, entry)
        self._try(self._log.write, entry)
        self._try(self._status.write, entry)
        if self._tensorboard is not None:
            self._try(self._tensorboard.write, entry)

    def __enter__(self) -> RunWatch:
        """The run is on: its folder exists and its status says so."""
        if self._main:
            self._config.run_folder.mkdir(parents=True, exist_ok=True)
            self._try(self._status.change_state, "running")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close everything, draw the losses and write how the run ended."""
        if not self._main:
            return
        self._try(self._terminal.end)
        if self._tensorboard is not None:
            self._try(self._tensorboard.end)
        if error is None:
            self._try(self._status.change_state, "finished")
        else:
            self._try(self._status.change_state, "failed", _describe(error))
        self._try(self._plot)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Forget what an earlier session wrote after the step that training goes on from."""
        if self._watches(state):
            self._begin(state.global_step)
            self._try(self._terminal.begin, state.global_step, _total_steps(state))
            self._try(self._status.advance, state.global_step, _total_steps(state))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """The model works again."""
        self._pace.step_begins()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """One step further; the last one always gets an entry."""
        self._pace.step_ends()
        if state.global_step >= state.max_steps or control.should_training_stop:
            control.should_log = True  # in every process: logging gathers the loss of all
        if self._watches(state):
            self._try(self._terminal.advance, state.global_step, state.max_steps)
            self._try(self._status.advance, state.global_step, state.max_steps)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Time went into something else."""
        self._pace.pause()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Time went into something else."""
        self._pace.pause()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Make an entry of losses; the trainer's closing summary is none."""
        if logs is None or not self._watches(state):
            return
        if "loss" in logs:
            self.record(self._training_entry(args.device, state, logs))
        elif "eval_loss" in logs:
            self.record(to_entry(logs, state.global_step, _total_steps(state)))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Leave the bar; evaluations may follow."""
        if self._watches(state):
            self._try(self._terminal.end)

    def _watches(self, state: TrainerState) -> bool:
        return self._main and bool(state.is_world_process_zero)

    def _begin(self, step: int) -> None:
        """Set log, clock and TensorBoard to the step that training goes on from."""
        last: dict[str, Any] | None = None
        if step == 0 and not self._begun:
            self._try(self._log.clear)
        else:
            last = self._try(self._log.cut_back, step)
        self._begun = True
        self._tokens_before = 0 if last is None else last.get("tokens") or 0
        self._pace.begin(step, 0.0 if last is None else last.get("seconds") or 0.0)
        if self._tensorboard is not None:
            self._try(self._tensorboard.begin, step)

    def _training_entry(
        self, device: torch.device, state: TrainerState, logs: dict[str, Any]
    ) -> TrainingEntry:
        session_tokens = _whole(logs.get("num_tokens"))
        speed = self._pace.measure(state.global_step, state.max_steps, session_tokens)
        memory = measure_memory(device, self._config.memory_gb)
        return TrainingEntry(
            step=state.global_step,
            total_steps=_total_steps(state),
            epoch=_number(logs.get("epoch")),
            loss=float(logs["loss"]),
            learning_rate=_number(logs.get("learning_rate")),
            grad_norm=_number(logs.get("grad_norm")),
            tokens=None if session_tokens is None else self._tokens_before + session_tokens,
            tokens_per_second=speed.tokens_per_second,
            seconds=speed.seconds,
            eta_seconds=speed.eta_seconds,
            memory_gb=memory.gb,
            memory_share=memory.share,
            metrics={
                name: float(value)
                for name, value in logs.items()
                if name not in _OWN_METRICS and isinstance(value, int | float)
            },
        )

    def _plot(self) -> None:
        log = self._config.run_folder / "log.jsonl"
        if log.exists() and any(entry.get("loss") is not None for entry in read_log(log)):
            plots.plot_losses(log, self._config.run_folder / "plots" / "losses.png")

    def _try(self, write: Callable[..., Any], *values: Any) -> Any:
        """Watching must not end what it watches; the first failure of each kind is told."""
        try:
            return write(*values)
        except OSError as error:
            text = f"warning: this run cannot be written about: {error}"
            if text not in self._warned:
                self._warned.add(text)
                self._try(self._terminal.say, text)
            return None


def _total_steps(state: TrainerState) -> int | None:
    """Nothing is planned before training; a time budget plans once it knows how long a step is."""
    return state.max_steps if 0 < state.max_steps < MOST_STEPS else None


def _first_different(questions: Sequence[Conversation], count: int) -> list[Conversation]:
    found: list[Conversation] = []
    for question in questions:
        if len(found) == count:
            break
        if list(question) not in [list(other) for other in found]:
            found.append(question)
    return found


def _describe(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped by the user"
    kind, text = type(error), str(error)
    # Errors of this project are sentences; others may be as short as KeyError's "name".
    ours = isinstance(error, ValueError) or kind.__module__.startswith("training.")
    return text if ours and text else f"{kind.__name__}: {text}".rstrip(": ")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
