"""Which layers keep their activations, and which compute them a second time to save memory."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.modeling_layers import GradientCheckpointingLayer


class CheckpointFirstLayers(TrainerCallback):  # type: ignore[misc]
    """Lets as many layers keep their activations as memory allows; each saves a forward pass.

    It is the first layers that compute twice: by the time the backward pass comes to them, the
    later ones have given their memory back.
    """

    def __init__(self, count: int) -> None:
        """The first `count` layers compute their activations twice."""
        self._count = count

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
        for layer in layers[self._count :]:
            layer.gradient_checkpointing = False
