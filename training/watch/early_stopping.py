"""Which evaluation was the best, and when waiting for a better one is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


@dataclass(frozen=True)
class Best:
    """The evaluation with the lowest loss; of equal ones the first."""

    step: int
    loss: float
    evaluations_since: int
    """Evaluations after it, none of them better."""


def find_best(log_history: Iterable[Mapping[str, Any]]) -> Best | None:
    """The best evaluation in a trainer's history, which checkpoints carry over to a resumed run.

    A loss that is not a number is never the best.
    """
    best: Best | None = None
    waited = 0
    for entry in log_history:
        if "eval_loss" not in entry:
            continue
        loss = float(entry["eval_loss"])
        if loss < (float("inf") if best is None else best.loss):
            best, waited = Best(int(entry["step"]), loss, 0), 0
        else:
            waited += 1
    return None if best is None else Best(best.step, best.loss, waited)


class EarlyStopping(TrainerCallback):  # type: ignore[misc]
    """Stops training after some evaluations without a better loss, in every process alike."""

    def __init__(self, evaluations: int, say: Callable[[str], None]) -> None:
        """`say` is given the reason."""
        assert evaluations > 0
        self._evaluations = evaluations
        self._say = say

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop if it has not become better for too long."""
        best = find_best(state.log_history)
        # A loss that was never a number is a failure of another kind, not a reason to be content.
        if best is None or best.evaluations_since < self._evaluations:
            return
        control.should_training_stop = True
        if state.is_world_process_zero:
            self._say(
                f"stopping early: no better held-out loss in {best.evaluations_since} evaluations "
                f"than {best.loss:.3f} at step {best.step}"
            )
