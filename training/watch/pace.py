"""How fast a run goes and how long it still takes, from the moments of its steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class PaceReading:
    """The pace at one moment."""

    seconds: float
    """Since the run began, earlier sessions included."""
    tokens_per_second: float | None
    """Since the moment before; None without a count of tokens."""
    eta_seconds: float | None
    """None before the first step."""


class Pace:
    """A clock for training: pauses count for the time left, but not for the speed."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` gives seconds that never go back."""
        self._now = now
        self.begin(0)

    def begin(self, step: int, seconds_before: float = 0.0) -> None:
        """Training goes on after `step`; earlier sessions took `seconds_before`."""
        self._begun = self._now() - seconds_before
        # The time left is reckoned from here; the first steps compile and warm up.
        self._origin = (self._now(), step)
        self._warm = False
        self._interval_began = self._now()
        self._last_step_ended = self._now()
        self._paused = 0.0
        self._pause_began: float | None = self._now()
        self._tokens = 0

    def step_begins(self) -> None:
        """The model works again."""
        if self._pause_began is not None:
            self._paused += self._now() - self._pause_began
            self._pause_began = None

    def step_ends(self) -> None:
        """A step was taken."""
        self._last_step_ended = self._now()

    def pause(self) -> None:
        """Something other than training has taken the time since the last step."""
        if self._pause_began is None:
            self._pause_began = self._last_step_ended

    def measure(self, step: int, total_steps: int, tokens: int | None) -> PaceReading:
        """The pace after `step`, with the `tokens` of this session; begins a new interval."""
        now = self._now()
        worked = now - self._interval_began - self._paused
        rate = None
        if tokens is not None and worked > 0:
            rate = (tokens - self._tokens) / worked
        reading = PaceReading(now - self._begun, rate, self._time_left(now, step, total_steps))
        if not self._warm:
            self._origin, self._warm = (now, step), True
        self._interval_began, self._paused, self._pause_began = now, 0.0, now
        self._tokens = self._tokens if tokens is None else tokens
        return reading

    def _time_left(self, now: float, step: int, total_steps: int) -> float | None:
        began, first = self._origin
        if step <= first:
            return None
        return (now - began) / (step - first) * max(total_steps - step, 0)
