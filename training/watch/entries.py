"""What a run tells of itself at one moment; every writer shows the same entry."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class TrainingEntry:
    """A moment of training; None for what is not known."""

    event: ClassVar[str] = "training"

    step: int
    total_steps: int | None
    """None while a time budget has not planned them."""
    epoch: float | None
    loss: float
    """Mean per learned token since the entry before."""
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens: int | None = None
    """Learned from since the run began, prompts included."""
    tokens_per_second: float | None = None
    """Since the entry before, evaluations and checkpoints not counted."""
    seconds: float = 0.0
    """Since the run began, earlier sessions included."""
    eta_seconds: float | None = None
    memory_gb: float | None = None
    """Peak on a GPU, what is in use elsewhere; in 10^9 bytes."""
    memory_share: float | None = None
    """Of the run's memory budget, or of the device."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Whatever else the trainer tells, under its names."""


@dataclass(frozen=True)
class EvaluationEntry:
    """The losses on held-out rows, each the mean per token of the answers."""

    event: ClassVar[str] = "evaluation"

    step: int
    total_steps: int | None
    epoch: float | None
    heldout_loss: float
    """Over the rows of all styles; what the best checkpoint and early stopping go by."""
    heldout_perplexity: float | None = None
    heldout_loss_by_style: dict[str, float] = field(default_factory=dict)
    heldout_perplexity_by_style: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """An answer of the model in training."""

    prompt: str
    """Last words of the user."""
    style: str
    text: str
    tokens: int
    ended: bool
    """Whether the model ended it itself."""


@dataclass(frozen=True)
class SamplesEntry:
    """Answers of the model in training, every style side by side."""

    event: ClassVar[str] = "samples"

    step: int
    samples: tuple[Sample, ...]


Entry = TrainingEntry | EvaluationEntry | SamplesEntry


def to_dict(entry: Entry) -> dict[str, Any]:
    """Plain data for JSON with the entry's kind as `event`."""
    plain: dict[str, Any] = finite({"event": entry.event, **dataclasses.asdict(entry)})
    return plain


def finite(value: Any) -> Any:
    """The same data with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
