"""How much memory training takes, from sizes alone: no model is loaded, no GPU is asked.

Every term is the size of tensors that exist at the moment of the peak, in bytes. How close that
comes to measured peaks is in the tests and in docs/train.md.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from training.config import TrainConfig
from training.resources.model_shape import Linear, ModelShape

CONTEXT_BYTES = 500_000_000
"""CUDA context, kernels and cuBLAS workspaces, which PyTorch's own counter leaves out."""
FRAGMENTED_SHARE = 0.05
"""Of what PyTorch allocates, lost between its blocks. This and the context are assumed."""

_FLOAT32 = 4
# NF4: half a byte for each weight, and a scale for each 64 of them, which training expands.
_NF4_BYTES = 1 / 2 + _FLOAT32 / 64
MLP = "mlp"
"""The feed-forward block of a layer, by the name that transformers gives it."""
# TRL computes the logits in tiles of that many tokens and tokens of the vocabulary.
_HEAD_TILE = (4096, 32768)
# They read what attention wrote, and that is kept for attention's own backward pass already.
_OUTPUT_PROJECTIONS = ("o_proj", "out_proj", "dense")


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the peak of an optimizer step, on each GPU."""

    weights: int
    """The frozen base: matrices in NF4 or unquantized, the rest as it computes."""
    adapter: int
    """What is trained, in float32, and the rounded copy that autocast computes with."""
    gradients: int
    optimizer: int
    """The optimizer's state of each trained number."""
    activations: int
    """What the layers keep from forward to backward pass."""
    workspace: int
    """The largest of what comes and goes: a layer computed again, logits, a weight in full."""
    overhead: int
    """Context of the device, and memory lost between blocks."""

    @property
    def allocated(self) -> int:
        """What PyTorch's `max_memory_allocated` should show."""
        return self.total - self.overhead

    @property
    def total(self) -> int:
        """What the GPU must have free."""
        return sum(getattr(self, field.name) for field in fields(self))


def estimate(
    shape: ModelShape,
    config: TrainConfig,
    *,
    tokens: int,
    checkpointed_layers: int,
    checkpointed_mlps: int = 0,
    dtype_bytes: int = 2,
) -> MemoryEstimate:
    """The peak of an optimizer step over micro-batches of at most `tokens`, padding included.

    The checkpointed layers are taken to be the first ones, those of which only the feed-forward
    block is checkpointed the next: their turn comes when the backward pass has given back what the
    others kept. `dtype_bytes` is 4 where the model computes in float32.

    Raises:
        ValueError: `target_modules` names what the base does not have.
    """
    layer = kept_by_layer(shape, config, tokens=tokens, dtype_bytes=dtype_bytes)
    layer_input = tokens * shape.hidden_size * dtype_bytes
    mlp = _kept_by_mlp(shape, config, dtype_bytes) * tokens - layer_input
    whole_layers = shape.num_layers - checkpointed_layers - checkpointed_mlps
    activations = (
        checkpointed_layers * layer_input + checkpointed_mlps * (layer - mlp) + whole_layers * layer
    )
    computed_again = 0
    if not whole_layers:
        computed_again = mlp if checkpointed_mlps else layer
    trained = num_trained(shape, config)
    embedding_gradient = shape.vocab_size * shape.hidden_size * dtype_bytes
    update = trained * _FLOAT32  # AdamW's square roots
    workspace = max(
        _head_bytes(shape, tokens, dtype_bytes),
        computed_again + _backward_bytes(shape, config, tokens, dtype_bytes),
        # what follows when all activations are given back
        max(embedding_gradient, update) - activations,
    )
    parts = {
        "weights": _weight_bytes(shape, config, dtype_bytes),
        "adapter": trained * (_FLOAT32 + (dtype_bytes if dtype_bytes < _FLOAT32 else 0)),
        "gradients": trained * _FLOAT32,
        "optimizer": trained * _state_bytes(config.optimizer),
        "activations": activations,
        "workspace": workspace,
    }
    if config.method != "sft":
        parts["adapter"] += trained * _FLOAT32  # the reference adapter
    overhead = CONTEXT_BYTES + round(FRAGMENTED_SHARE * sum(parts.values()))
    return MemoryEstimate(**parts, overhead=overhead)


def kept_by_layer(
    shape: ModelShape, config: TrainConfig, *, tokens: int, dtype_bytes: int = 2
) -> int:
    """Bytes that a layer keeps for its backward pass if it is not checkpointed.

    As autograd does with the lean layers of `training.lean`; in brackets the bytes a token of
    Mistral-7B in bfloat16.
    """
    per_token = (
        2 * shape.hidden_size * dtype_bytes  # inputs of both norms [16,384]
        + 2 * _FLOAT32  # and what they were divided by
        + _kept_by_attention(shape, config, tokens, dtype_bytes)
        + _kept_by_lora(shape, config, dtype_bytes, mlp=False)
        + _kept_by_mlp(shape, config, dtype_bytes)
    )
    return tokens * per_token


def num_trained(shape: ModelShape, config: TrainConfig) -> int:
    """Numbers that are trained: LoRA pairs and the rows of the style tokens."""
    pairs = sum(
        config.lora_r * (linear.in_features + linear.out_features)
        + (linear.out_features if config.dora else 0)
        for linear in targets(shape, config)
    )
    return shape.num_layers * pairs + len(config.styles) * shape.hidden_size


def targets(shape: ModelShape, config: TrainConfig) -> list[Linear]:
    """The matrices of a layer that get a LoRA pair.

    Raises:
        ValueError: a name that the base does not have, with the names it has.
    """
    names = [linear.name for linear in shape.linears]
    missing = [name for name in config.target_modules if name not in names]
    if missing:
        raise ValueError(
            f"target_modules: the base has no {', '.join(missing)}; it has {', '.join(names)}"
        )
    return [linear for linear in shape.linears if linear.name in config.target_modules]


def _kept_by_attention(
    shape: ModelShape, config: TrainConfig, tokens: int, dtype_bytes: int
) -> int:
    """Bytes a token and layer: query, key, value, result and the logarithms of sums."""
    sums = shape.num_heads * _FLOAT32
    if not config.pads_rows:  # [20,608]
        return 2 * (shape.query_size + shape.key_size) * dtype_bytes + sums
    # key and value repeated for each head, and a row of the mask [32,896 + 2 x length]
    mask = min(tokens, config.max_length)
    return (4 * shape.query_size + mask) * dtype_bytes + sums


def _kept_by_mlp(shape: ModelShape, config: TrainConfig, dtype_bytes: int) -> int:
    """Bytes a token and layer: gate and up [57,344], or before and after the activation."""
    own = 2 * shape.intermediate_size * dtype_bytes
    return own + _kept_by_lora(shape, config, dtype_bytes, mlp=True)


def _kept_by_lora(shape: ModelShape, config: TrainConfig, dtype_bytes: int, *, mlp: bool) -> int:
    """Bytes a token and layer, for the gradients of the LoRA pairs of one half of a layer."""
    chosen = [linear for linear in targets(shape, config) if (linear.block == MLP) is mlp]
    kept = len(chosen) * config.lora_r * dtype_bytes  # between the two of a pair [224]
    if config.dora:
        # both summands of each output, which its magnitude multiplies; not measured
        kept += sum(2 * linear.out_features * dtype_bytes for linear in chosen)
    if config.lora_dropout > 0:
        # Each pair has a dropped copy of its input, and which numbers were dropped [116,736].
        return kept + sum(linear.in_features * (dtype_bytes + 1) for linear in chosen)
    # Pairs that read the same share it: q|k|v, gate|up, down [45,056].
    inputs = {linear.in_features for linear in chosen if linear.name not in _OUTPUT_PROJECTIONS}
    return kept + sum(inputs) * dtype_bytes


def _weight_bytes(shape: ModelShape, config: TrainConfig, dtype_bytes: int) -> int:
    linear_bytes = _NF4_BYTES if config.quantization == "nf4" else dtype_bytes
    return round(shape.num_linear_weights * linear_bytes) + shape.num_other_weights * dtype_bytes


def _head_bytes(shape: ModelShape, tokens: int, dtype_bytes: int) -> int:
    """The last norm and a tile of logits with their gradient; all tokens may be learned."""
    rows, columns = (min(tokens, _HEAD_TILE[0]), min(shape.vocab_size, _HEAD_TILE[1]))
    norm = tokens * shape.hidden_size * (_FLOAT32 + dtype_bytes)
    gradient = tokens * shape.hidden_size * (_FLOAT32 + dtype_bytes)
    return norm + gradient + rows * columns * dtype_bytes


def _backward_bytes(shape: ModelShape, config: TrainConfig, tokens: int, dtype_bytes: int) -> int:
    """In the backward pass of a layer: two gradients of its widest part, and a 4-bit weight."""
    weight = max(linear.num_weights for linear in shape.linears) * dtype_bytes
    gradients = 2 * tokens * shape.intermediate_size * dtype_bytes
    return gradients + (weight if config.quantization == "nf4" else 0)


def _state_bytes(optimizer: str) -> int:
    """Bytes of state for each trained number; others than AdamW and SGD are taken for AdamW."""
    if "8bit" in optimizer:
        return 2
    return 0 if optimizer == "sgd" else 2 * _FLOAT32
