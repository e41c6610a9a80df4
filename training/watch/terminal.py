"""Shows a run to people: a progress bar on a terminal, plain lines in files and containers."""

from __future__ import annotations

import os
from typing import Any, Protocol, TextIO

# tqdm.auto would draw a widget in notebooks, whose stderr is no terminal.
from tqdm.std import tqdm

from training.watch.entries import Entry, EvaluationEntry, SamplesEntry, TrainingEntry
from training.watch.lines import bar_text, evaluation_line, samples_text, training_line

_BAR_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"


class Terminal(Protocol):
    """Where people watch a run."""

    def begin(self, step: int, total_steps: int | None) -> None:
        """Training begins after `step`; None for steps that are not planned yet."""

    def advance(self, step: int, total_steps: int) -> None:
        """A step was taken; called at every one."""

    def write(self, entry: Entry) -> None:
        """Show an entry."""

    def say(self, text: str) -> None:
        """Show a line of its own."""

    def end(self) -> None:
        """Training is over; entries may still follow."""


def open_terminal(stream: TextIO) -> Terminal:
    """A bar on a terminal that has room for one, lines otherwise."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # a file, or a stream in memory
        columns = 0
    # some containers have terminals of no size, on which a bar would not be seen
    return ProgressBar(stream) if columns > 0 else PlainLines(stream)


class PlainLines:
    """A line per entry."""

    def __init__(self, stream: TextIO) -> None:
        """Lines go to `stream` at once."""
        self._stream = stream

    def begin(self, step: int, total_steps: int | None) -> None:
        """The first entry is soon enough."""

    def advance(self, step: int, total_steps: int) -> None:
        """Steps without an entry are not told."""

    def write(self, entry: Entry) -> None:
        """Tell an entry."""
        self.say(_text(entry))

    def say(self, text: str) -> None:
        """Write a line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def end(self) -> None:
        """Nothing to close."""


class ProgressBar:
    """A bar over the steps with the latest figures; everything else appears above it."""

    def __init__(self, stream: TextIO) -> None:
        """The bar appears when training begins."""
        self._stream = stream
        self._bar: tqdm[Any] | None = None
        self._waiting = False

    def begin(self, step: int, total_steps: int | None) -> None:
        """Open the bar, or let it wait for the first step."""
        self.end()
        self._waiting = total_steps is None
        if total_steps is not None:
            self._open(step, total_steps)

    def advance(self, step: int, total_steps: int) -> None:
        """Move the bar; a time budget may change how many steps there are."""
        if self._waiting:
            self._open(step, total_steps)
        if self._bar is not None:
            self._bar.total = total_steps
            self._bar.update(step - self._bar.n)

    def write(self, entry: Entry) -> None:
        """Figures of training behind the bar, anything else above it."""
        if self._bar is not None and isinstance(entry, TrainingEntry):
            self._bar.set_postfix_str(bar_text(entry))
        else:
            self.say(_text(entry))

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        tqdm.write(text, file=self._stream)
        self._stream.flush()

    def end(self) -> None:
        """Leave the bar as it is."""
        self._waiting = False
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _open(self, step: int, total_steps: int) -> None:
        self._waiting = False
        self._bar = tqdm(
            total=total_steps,
            initial=step,
            bar_format=_BAR_FORMAT,
            file=self._stream,
            dynamic_ncols=True,
        )


def _text(entry: Entry) -> str:
    if isinstance(entry, TrainingEntry):
        return training_line(entry)
    if isinstance(entry, EvaluationEntry):
        return evaluation_line(entry)
    assert isinstance(entry, SamplesEntry)
    return f"answers at step {entry.step}\n{samples_text(entry)}"
