"""Which layers keep their activations, and which compute them a second time to save memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.modeling_layers import GradientCheckpointingLayer

from training.arguments import CHECKPOINTING
from training.resources.memory import MLP


class CheckpointFirstLayers(TrainerCallback):  # type: ignore[misc]
    """Lets as many layers keep their activations as memory allows; each saves a forward pass.

    It is the first layers that compute twice: by the time the backward pass comes to them, the
    later ones have given their memory back.
    """

    def __init__(self, layers: int, mlps: int = 0) -> None:
        """The first `layers` compute all twice, the next `mlps` their feed-forward blocks."""
        self._layers = layers
        self._mlps = mlps

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        **_: Any,
    ) -> None:
        """Switch the rest off again, after the trainer has switched all layers on."""
        if not args.activation_checkpointing:
            return
        layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
        for layer in layers[self._layers :]:
            layer.gradient_checkpointing = False
        for layer in layers[self._layers : self._layers + self._mlps]:
            _compute_twice(getattr(layer, MLP))


def _compute_twice(block: nn.Module) -> None:
    compute = type(block).forward

    def forward(x: Tensor) -> Tensor:
        if not (block.training and torch.is_grad_enabled()):
            result: Tensor = compute(block, x)
            return result
        again: Tensor = checkpoint(compute, block, x, **CHECKPOINTING)
        return again

    block.forward = forward
