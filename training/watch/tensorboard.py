"""TensorBoard files, for those who watch their runs there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.watch.entries import Entry, EvaluationEntry, TrainingEntry
from training.watch.lines import samples_text

_TRAINING_NAMES = (
    "loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "memory_gb",
    "epoch",
)


class TensorBoardFiles:
    """Scalars of every entry under the names of the log, and the answers as text."""

    def __init__(self, folder: Path) -> None:
        """Nothing is written before the first entry.

        Raises:
            ValueError: the package is not installed; it is large and most runs do without it.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "tensorboard: true needs the package tensorboard; "
                "pip install tensorboard, or set tensorboard=false"
            ) from error
        self._open = SummaryWriter
        self._folder = folder
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Training goes on after `step`; what was written for later ones no longer shows."""
        self.end()
        self._writer = self._open(str(self._folder), purge_step=step + 1)

    def write(self, entry: Entry) -> None:
        """Add what an entry holds."""
        if self._writer is None:
            self.begin(entry.step)
        if isinstance(entry, TrainingEntry | EvaluationEntry):
            for name, value in _scalars(entry):
                self._writer.add_scalar(name, value, entry.step)
        else:
            # TensorBoard reads Markdown; four spaces keep the text as it is
            lines = samples_text(entry).splitlines()
            text = "\n".join(f"    {line}" for line in lines)
            self._writer.add_text("answers", text, entry.step)
        self._writer.flush()

    def end(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _scalars(entry: TrainingEntry | EvaluationEntry) -> Iterator[tuple[str, float]]:
    if isinstance(entry, TrainingEntry):
        named = {f"training/{name}": getattr(entry, name) for name in _TRAINING_NAMES}
        named |= {f"training/{name}": value for name, value in entry.metrics.items()}
    else:
        named = {"heldout/loss": entry.heldout_loss, "heldout/perplexity": entry.heldout_perplexity}
        for style, loss in entry.heldout_loss_by_style.items():
            named[f"heldout/loss_{style}"] = loss
        for style, perplexity in entry.heldout_perplexity_by_style.items():
            named[f"heldout/perplexity_{style}"] = perplexity
    for name, value in named.items():
        if value is not None and math.isfinite(value):
            yield name, value
