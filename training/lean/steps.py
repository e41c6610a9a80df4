"""What a trainer of transformers does at every step and need not.

Walks over some thousand modules and parameters, three of them a step, are of no account beside the
products of a large model on a fast GPU, until those take a tenth of a second.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import Trainer


class ShortSteps(Trainer):  # type: ignore[misc]
    """Put it before a trainer: `class StyleTrainer(ShortSteps, SFTTrainer)`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As the trainer behind it."""
        super().__init__(*args, **kwargs)
        _shorten_walks(self.model)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: to count the parameters at every step takes longer than they say."""
        return 0


def _shorten_walks(model: nn.Module) -> None:
    """Let `train` and `zero_grad` of a model do only what there is to do."""
    model.train(model.training)  # whatever modes its parts are in, from here on they are in one
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def train(mode: bool = True) -> nn.Module:
        return model if model.training == mode else type(model).train(model, mode)

    def zero_grad(set_to_none: bool = True) -> None:
        for parameter in trained:
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.detach_().zero_()

    model.train, model.zero_grad = train, zero_grad  # type: ignore[method-assign]
