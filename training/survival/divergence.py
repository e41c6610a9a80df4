"""Notices a training that has gone wrong, before the step that would spoil what was learned."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

EXPLOSION_FACTOR = 100.0
"""A gradient is exploding when its norm exceeds the running median this many times ..."""
EXPLOSION_STEPS = 3
"""... for as many steps in a row."""
_WINDOW = 100
_SETTLING_STEPS = 20
_SKIPPED_STEPS = 20
# The scale of 16-bit training starts at 2^16 and halves with each skipped step.


class DivergedError(ValueError):
    """Training was stopped because its numbers have become useless; says what to change."""


@dataclass
class GradientWatch:
    """Judges the gradient norm of each step against those before it."""

    settling_steps: int = _SETTLING_STEPS
    """Steps without a judgement on size: the warm-up, and at least what a median needs."""
    skips_overflow: bool = False
    """Whether a step whose gradient is not finite is skipped, as 16-bit loss scaling does."""
    _norms: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _seen: int = 0
    _exploded: int = 0
    _overflowed: int = 0

    def problem(self, norm: float, *, loss_is_finite: bool) -> str | None:
        """What is wrong with the step that is about to be taken; None if it may be."""
        if not loss_is_finite:
            return "the loss is not a finite number"
        if not math.isfinite(norm):
            self._overflowed += 1
            if self.skips_overflow and self._overflowed <= _SKIPPED_STEPS:
                return None
            return f"the gradient norm is {norm}"
        self._overflowed = 0
        self._seen += 1
        settled = self._seen > max(self.settling_steps, _SETTLING_STEPS)
        median = statistics.median(self._norms) if self._norms else 0.0
        if not settled or norm <= EXPLOSION_FACTOR * median:
            self._exploded = 0
            self._norms.append(norm)
            return None
        self._exploded += 1
        if self._exploded < EXPLOSION_STEPS:
            return None
        return (
            f"the gradient norm is {norm:.3g}, for {EXPLOSION_STEPS} steps more than "
            f"{EXPLOSION_FACTOR:g} times its median {median:.3g}"
        )
