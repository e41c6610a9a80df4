"""A time budget: the run measures its steps and ends, complete and judged, before time is up.

The learning rate follows the share of the time that is used, not a count of steps that nobody
knows beforehand.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.optimization import get_scheduler

MOST_STEPS = 10**7
"""Stands for "until time is up" where a count of steps must be given."""
_RECENT_STEPS = 20
_FINE = 10_000
"""Steps of the schedule, of which a share of the time picks one."""


class TimeBudget:
    """How much of the time is used, and how much of it is left for steps."""

    def __init__(
        self,
        seconds: float,
        *,
        used_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock; `used_seconds` were spent before, by the same run interrupted."""
        self.seconds = seconds
        self.reserved_seconds = 0.0
        """Kept for what comes after the last step: evaluation, saving, judging."""
        self._clock = clock
        self._started = clock() - used_seconds
        self._used_before = 0.0
        self._first_step_at = self.elapsed()

    def elapsed(self) -> float:
        """Seconds used so far, those of interrupted attempts included."""
        return self._clock() - self._started

    def remaining(self) -> float:
        """Seconds left for steps."""
        return self.seconds - self.reserved_seconds - self.elapsed()

    def add_used(self, seconds: float) -> None:
        """Count what earlier processes spent on this run."""
        self._started -= seconds
        self._used_before += seconds

    def begin_steps(self) -> None:
        """The steps begin now, or began when the earlier processes had come to theirs."""
        self._first_step_at = self.elapsed() - self._used_before

    def progress(self) -> float:
        """Share of the steps' time that is used, from 0 to 1."""
        used = self.elapsed() - self._first_step_at
        whole = self.seconds - self.reserved_seconds - self._first_step_at
        return min(max(used / whole, 0.0), 1.0) if whole > 0 else 1.0


class BudgetCallback(TrainerCallback):  # type: ignore[misc]
    """Plans the steps that still fit after each one, and stops before one that does not."""

    def __init__(self, budget: TimeBudget, *, closing_steps: float = 0.0) -> None:
        """Measure from the first step on; time of `closing_steps` is kept for an evaluation."""
        self.progress = 0.0
        """What the learning rate follows; alike on all processes."""
        self._budget = budget
        self._closing_steps = closing_steps
        self._steps: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._pauses: deque[float] = deque([0.0], maxlen=_RECENT_STEPS)
        self._began: float | None = None
        self._ended: float | None = None

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """A step begins; what happened since the last one was a pause."""
        self._began = self._budget.elapsed()
        if self._ended is not None:
            self._pauses.append(self._began - self._ended)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Plan anew from the time that steps really take."""
        self._ended = self._budget.elapsed()
        if self._began is not None:
            self._steps.append(self._ended - self._began)
        step, pause = statistics.median(self._steps or [1.0]), statistics.median(self._pauses)
        remaining = self._budget.remaining() - self._closing_steps * step
        # Rows differ in length; a step may take as long as the longest of late.
        fits = remaining >= max(self._steps, default=0.0) + pause
        left = int(remaining / max(step + pause, 1e-9))
        planned = state.global_step + (max(left, 1) if fits else 0)
        self.progress, state.max_steps = _as_the_first_process(self._budget.progress(), planned)
        control.should_training_stop |= state.global_step >= state.max_steps


def follow_time(
    name: str, optimizer: Optimizer, warmup_fraction: float, progress: Callable[[], float]
) -> LambdaLR:
    """A schedule of transformers by name, over the time instead of over the steps.

    Raises:
        ValueError: a schedule that needs more than a count of steps.
    """
    # made on a stand-in, since making a schedule sets the learning rate of what it is made for
    stand_in = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    over_steps = get_scheduler(name, stand_in, round(_FINE * warmup_fraction), _FINE)
    if not isinstance(over_steps, LambdaLR):
        raise ValueError(f"lr_scheduler {name} cannot follow a time budget; use cosine or linear")
    [share] = over_steps.lr_lambdas
    return LambdaLR(optimizer, lambda _: share(round(_FINE * progress())))


def _as_the_first_process(progress: float, planned: int) -> tuple[float, int]:
    """What the first of several processes made of its clock: no two clocks agree."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return progress, planned
    told: list[Any] = [progress, planned]
    torch.distributed.broadcast_object_list(told)
    return told[0], told[1]
