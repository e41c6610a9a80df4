"""What a trainer of transformers forgets at a checkpoint, so that totals and curves go on too."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Continuation:
    """Sums and flags of one process; `Continuation()` is that of a run that has not begun."""

    loss_since_log: float = 0.0
    """Sum of the losses since the last log entry."""
    loss_before_log: float = 0.0
    """Sum of the losses up to the last log entry."""
    last_logged_step: int = 0
    seconds: float = 0.0
    """Time that training has taken so far."""
    num_tokens: int = 0
    metrics: dict[str, list[float]] = field(default_factory=dict)
    """TRL's measurements since the last log entry, by name."""
    complete: bool = False
    """Whether no step is left: all are done, or training was stopped early for good."""
    evaluation_due: bool = False
    """Whether the evaluation of this step was put off because a signal asked to stop."""

    def save(self, folder: Path, rank: int) -> None:
        """Write the file of one process into a checkpoint."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        _file(folder, rank).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, rank: int) -> Continuation:
        """Read it; with more processes than before, the new ones go on as the first did."""
        path = _file(folder, rank)
        if not path.exists():
            path = _file(folder, 0)
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def _file(folder: Path, rank: int) -> Path:
    return folder / f"continuation-{rank}.json"
