"""How long training takes, on hardware where it was measured; nothing is guessed for others."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from training.config import TrainConfig
from training.resources.memory import MLP
from training.resources.model_shape import ModelShape
from training.resources.plan import Plan


@dataclass(frozen=True)
class Speed:
    """What one kind of GPU did with 4-bit weights and LoRA."""

    operations_per_second: float
    """In the products with the base's weights, once a micro-batch is large."""
    pass_seconds: float
    """A forward pass through one layer with a few tokens only: the time to start its kernels."""
    pass_seconds_with_dropout: float
    """The same with LoRA dropout, which starts more of them."""


# Fitted to the H200's runs in docs/train.md (1,200 to 4,400 tokens in a micro-batch).
_SPEEDS = {"NVIDIA H200": Speed(4.1e14, 1.1e-3, 1.5e-3)}
_MLP_STARTS = 0.5
"""Share of a layer's kernels that belong to its feed-forward block."""


def estimate_seconds(
    shape: ModelShape,
    config: TrainConfig,
    lengths: Sequence[int],
    plan: Plan,
    *,
    gpu: str | None,
) -> float | None:
    """Seconds that all optimizer steps take on one GPU, evaluation and loading not counted.

    `lengths` are the tokens of each row, `gpu` is the name the driver gives it. None for hardware
    that was not measured; with a time budget, the budget.
    """
    if config.hours:
        return config.hours * 3600
    speed = _SPEEDS.get(gpu or "")
    if speed is None:
        return None
    num_micro_batches = num_steps(config, len(lengths)) * (
        config.effective_batch_size // plan.micro_batch_size
    )
    tokens = usual_tokens(lengths, plan.micro_batch_size, padded=config.pads_rows)
    layers = plan.checkpointed_layers / shape.num_layers
    mlps = plan.checkpointed_mlps / shape.num_layers
    in_mlps = sum(linear.num_weights for linear in shape.linears if linear.block == MLP)
    weights_again = layers + mlps * in_mlps * shape.num_layers / shape.num_linear_weights
    # The base is frozen: the backward pass computes the gradients of inputs only, with as many
    # operations as the forward pass, but it starts twice as many kernels.
    operations = 2 * shape.num_linear_weights * tokens * (2 + weights_again)
    a_pass = speed.pass_seconds_with_dropout if config.lora_dropout > 0 else speed.pass_seconds
    starts = a_pass * shape.num_layers * (3 + layers + _MLP_STARTS * mlps)
    return num_micro_batches * (operations / speed.operations_per_second + starts)


def num_steps(config: TrainConfig, num_rows: int) -> int:
    """Optimizer steps of a run over that many rows."""
    if config.max_steps > 0:
        return config.max_steps
    return math.ceil(math.ceil(num_rows / config.effective_batch_size) * config.epochs)


def usual_tokens(lengths: Sequence[int], micro_batch_size: int, *, padded: bool) -> float:
    """Mean tokens of a micro-batch of rows in random order, padding included."""
    rows = list(lengths)
    random.Random(0).shuffle(rows)
    batches = [
        rows[start : start + micro_batch_size] for start in range(0, len(rows), micro_batch_size)
    ]
    tokens = [len(batch) * max(batch) if padded else sum(batch) for batch in batches]
    return sum(tokens) / len(tokens)
