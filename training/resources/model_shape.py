"""What a base model's files tell of its size; nothing of the weights is read but the headers."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

_LAYER_WEIGHT = re.compile(r"\.0\.(?:(?P<block>[\w.]+)\.)?(?P<name>\w+)\.weight$")
"""A weight of the first decoder layer, as in `model.layers.0.self_attn.q_proj.weight`."""


@dataclass(frozen=True)
class Linear:
    """A matrix of a decoder layer."""

    block: str
    """What it belongs to: 'self_attn', 'mlp'."""
    name: str
    """Its own name, as `target_modules` gives it: 'q_proj'."""
    in_features: int
    out_features: int

    @property
    def num_weights(self) -> int:
        """How many numbers it holds."""
        return self.in_features * self.out_features


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder whose layers are all alike."""

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    head_size: int
    vocab_size: int
    linears: tuple[Linear, ...]
    """The matrices of one layer, which is what quantization and LoRA change."""
    num_other_weights: int
    """Embedding, output matrix, norms and biases, which are never quantized."""

    @property
    def query_size(self) -> int:
        """Width of all heads together."""
        return self.num_heads * self.head_size

    @property
    def key_size(self) -> int:
        """Width of all key heads together."""
        found = [linear.out_features for linear in self.linears if linear.name == "k_proj"]
        return found[0] if found else self.query_size

    @property
    def num_linear_weights(self) -> int:
        """Numbers in the matrices of all layers."""
        return self.num_layers * sum(linear.num_weights for linear in self.linears)


def read_shape(folder: Path) -> ModelShape:
    """The sizes of a base model, from config.json and the headers of its weight files.

    Raises:
        FileNotFoundError: there is no config.json or no weight file.
        ValueError: one of them is damaged, or tells of no decoder with layers that are alike.
    """
    config = _read_config(folder / "config.json")
    shapes = _read_tensor_shapes(folder)
    linears = tuple(_first_layer(shapes))
    if not linears:
        raise ValueError(f"{folder}: the weight files hold no matrices of a first layer")
    try:
        hidden_size, num_heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        num_layers = int(config["num_hidden_layers"])
        num_linear_weights = num_layers * sum(linear.num_weights for linear in linears)
        return ModelShape(
            num_layers=num_layers,
            hidden_size=hidden_size,
            intermediate_size=int(config.get("intermediate_size") or 4 * hidden_size),
            num_heads=num_heads,
            head_size=int(config.get("head_dim") or hidden_size // num_heads),
            vocab_size=int(config["vocab_size"]),
            linears=linears,
            num_other_weights=sum(map(math.prod, shapes.values())) - num_linear_weights,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / 'config.json'} is no decoder's: {error!r}") from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        config: dict[str, Any] = data.get("text_config") or data
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no model configuration: {error}") from error
    return config


def _read_tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise FileNotFoundError(f"{folder} holds no *.safetensors weights")
    shapes: dict[str, tuple[int, ...]] = {}
    for shard in shards:
        try:
            with safe_open(shard, framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (no mapping)
                    shapes[name] = tuple(tensors.get_slice(name).get_shape())
        except SafetensorError as error:
            raise ValueError(f"{shard} is not a whole safetensors file: {error}") from error
    return shapes


def _first_layer(shapes: dict[str, tuple[int, ...]]) -> list[Linear]:
    linears = []
    for tensor, shape in shapes.items():
        found = _LAYER_WEIGHT.search(tensor)
        if found and len(shape) == 2:
            linears.append(Linear(found["block"] or "", found["name"], shape[1], shape[0]))
    return linears
