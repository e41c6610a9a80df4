"""Numbers on answers: how long they are, how they end, and how far two styles are apart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from training.cards import ngram_counts
from training.judging.windows import Window

if TYPE_CHECKING:
    from serving.types import Output

NUM_RESAMPLES = 2000
_RESAMPLING_SEED = 20
Interval = tuple[float, float]


@dataclass(frozen=True)
class StyleScore:
    """Answers in one style to the same prompts."""

    median_tokens: float
    min_tokens: int
    max_tokens: int
    ended_share: float
    """Answers that the model ended itself."""
    repeating_share: float
    """Answers in which a run of four tokens stands more than twice."""
    violation_rate: float | None
    """Answers shorter or longer than the style's window allows; None where there is no style."""


@dataclass(frozen=True)
class Separation:
    """How far two sets of answers to the same prompts are apart; the first is meant to be short."""

    median_ratio: float
    auc: float
    """P(a length of the second set exceeds one of the first), ties counted half."""
    auc_interval: Interval
    """95 % of what resampled prompts give."""
    paired_auc: float
    """The same between the two answers to one prompt: what a caller who switches style meets."""
    paired_auc_interval: Interval
    swap_share: float
    """Prompts whose two answers both lie in the windows of their styles."""


def score(outputs: Sequence[Output], window: Window | None = None) -> StyleScore:
    """Summarize answers that are meant to lie in a window."""
    lengths = [len(output.ids) for output in outputs]
    repeating = sum(max(ngram_counts(o.ids).values(), default=0) > 2 for o in outputs)
    outside = None if window is None else [not window.holds(length) for length in lengths]
    return StyleScore(
        median_tokens=statistics.median(lengths),
        min_tokens=min(lengths),
        max_tokens=max(lengths),
        ended_share=sum(output.finish_reason == "stop" for output in outputs) / len(outputs),
        repeating_share=repeating / len(outputs),
        violation_rate=None if outside is None else sum(outside) / len(outside),
    )


def separate(
    shorter: Sequence[int], longer: Sequence[int], windows: tuple[Window, Window]
) -> Separation:
    """Compare the lengths of two sets of answers to the same prompts, in the same order."""
    wins = _wins(shorter, longer)
    auc_interval, paired_interval = _intervals(wins)
    medians = statistics.median(shorter), statistics.median(longer)
    swaps = [
        windows[0].holds(short) and windows[1].holds(long)
        for short, long in zip(shorter, longer, strict=True)
    ]
    return Separation(
        median_ratio=medians[1] / max(medians[0], 1),
        auc=wins.mean().item(),
        auc_interval=auc_interval,
        paired_auc=wins.diagonal().mean().item(),
        paired_auc_interval=paired_interval,
        swap_share=sum(swaps) / len(swaps),
    )


def auc(shorter: Sequence[int], longer: Sequence[int]) -> float:
    """Share of pairs in which the second sequence's length is larger, ties counted half."""
    return _wins(shorter, longer).mean().item()


def _wins(shorter: Sequence[int], longer: Sequence[int]) -> torch.Tensor:
    """[shorter, longer]: 1 where the longer one is longer, a half where they are alike."""
    rows = torch.tensor(shorter, dtype=torch.float64)[:, None]
    return (torch.sign(torch.tensor(longer, dtype=torch.float64) - rows) + 1) / 2


def _intervals(wins: torch.Tensor) -> tuple[Interval, Interval]:
    """Intervals of the unpaired and the paired share, from prompts drawn with replacement.

    Both answers to a prompt are drawn together, so that what they have in common is kept.
    """
    size = len(wins)
    generator = torch.Generator().manual_seed(_RESAMPLING_SEED)
    drawn = torch.randint(size, (NUM_RESAMPLES, size), generator=generator)
    counts = torch.zeros(NUM_RESAMPLES, size, dtype=torch.float64)
    counts.scatter_add_(1, drawn, torch.ones_like(counts))
    unpaired = ((counts @ wins) * counts).sum(dim=1) / size**2
    paired = counts @ wins.diagonal() / size
    return _middle(unpaired), _middle(paired)


def _middle(values: torch.Tensor) -> Interval:
    """The limits of the middle 95 %."""
    limits = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=values.dtype))
    return limits[0].item(), limits[1].item()
