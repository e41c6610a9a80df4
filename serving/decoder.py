"""A dense decoder of the Llama family, laid out for generation: few launches, one cache.

Mistral, Llama and Qwen differ in biases, in the norm of queries and keys and in whether the
embedding is tied; transformers has loaded the weights and computes the rotation of positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from serving.attention import StepInput, attend_by_row, choose_attention
from serving.kv_cache import KVCache
from serving.linear import Projection, UnsupportedWeightError, check_layers, projection
from serving.logprobs import Scoring
from serving.ops import device_ops

_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Those whose frequencies do not depend on the length of the text."""


class UnsupportedModelError(ValueError):
    """The model is not laid out like those this file knows; the message says in what."""


@dataclass(frozen=True)
class _Layer:
    input_norm: Tensor
    qkv: Projection
    qk_norms: tuple[Tensor, Tensor] | None
    output: Projection
    mlp_norm: Tensor
    gate_up: Projection
    down: Projection


class Decoder:
    """Computes logits from ids, with keys and values kept in a cache."""

    def __init__(self, model: PreTrainedModel, *, max_length: int, dense: bool) -> None:
        """Take over the weights of `model`, which cannot be used afterwards.

        Args:
            model: of one of the families above, with or without LoRA layers.
            max_length: most tokens that a row can come to have.
            dense: expand 4-bit weights once and merge LoRA into them.

        Raises:
            UnsupportedModelError: before anything was taken.
        """
        config = model.config
        if problem := _problem(model, max_length):
            raise UnsupportedModelError(problem)
        self.device, self.dtype = model.device, model.dtype
        self.max_length = max_length
        self.vocab_size = int(model.get_output_embeddings().weight.shape[0])
        self.num_layers = int(config.num_hidden_layers)
        self.num_heads = int(config.num_attention_heads)
        self.num_kv_heads = int(config.num_key_value_heads)
        self.head_dim = int(
            getattr(config, "head_dim", None) or config.hidden_size // self.num_heads
        )
        self._eps = float(config.rms_norm_eps)
        self._ops = device_ops(self.device)
        self._attend = choose_attention(self.device, self.dtype, self.head_dim, max_length)
        self._rotation = _rotation(model, max_length)
        with torch.no_grad():
            self._layers = _take_layers(model, self.dtype, dense=dense)
        self._embedding = model.get_input_embeddings().weight.data
        self._head = model.get_output_embeddings().weight.data
        self._norm = model.model.norm.weight.data
        self._cache: KVCache | None = None

    @property
    def can_be_captured(self) -> bool:
        """Whether a pass can be recorded as a CUDA graph: nothing in it waits for the device."""
        return self._attend is not attend_by_row

    @property
    def cache_bytes_per_token(self) -> int:
        """Memory that a token takes in the cache."""
        per_layer = 2 * self.num_kv_heads * self.head_dim * self.dtype.itemsize
        return int(self.num_layers * per_layer)

    def allocate_cache(self, num_tokens: int) -> int:
        """Take memory for keys and values; returns a place that belongs to no row."""
        self._cache = KVCache(
            self.num_layers,
            num_tokens,
            self.num_kv_heads,
            self.head_dim,
            self.dtype,
            self.device,
        )
        return self._cache.spare

    def release(self, start: int) -> None:
        """The row that began at `start` is over; its keys and values may just be overwritten."""

    def forward(self, step: StepInput, scoring: Scoring | None = None) -> Tensor:
        """Logits [rows, vocabulary] of the token that follows each row; others go to `scoring`."""
        assert self._cache is not None
        residual = functional.embedding(step.ids, self._embedding).float()
        rotation = (self._rotation[0][step.positions], self._rotation[1][step.positions])
        update: Tensor | None = None
        for index, layer in enumerate(self._layers):
            x = self._ops.add_rms_norm(residual, update, layer.input_norm, self._eps)
            qkv = layer.qkv(x)
            if layer.qk_norms is not None:
                self._normalize_heads(qkv, layer.qk_norms)
            keys, values = self._cache.keys[index], self._cache.values[index]
            queries = self._ops.rotate_and_store(
                qkv, rotation, step.slots, keys, values, self.num_heads
            )
            attended = self._attend(queries, keys, values, step)
            update = layer.output(attended.flatten(1))
            x = self._ops.add_rms_norm(residual, update, layer.mlp_norm, self._eps)
            update = layer.down(self._ops.silu_mul(layer.gate_up(x)))
        assert update is not None
        if scoring is not None:
            for part in scoring.parts:
                # a copy: the sum is made in place, and made again for the last tokens
                scoring.take(self._logits(residual[part].clone(), update[part]))
        if step.most_tokens > 1:
            residual, update = residual[step.last_tokens], update[step.last_tokens]
        return self._logits(residual, update)

    def _logits(self, residual: Tensor, update: Tensor) -> Tensor:
        x = self._ops.add_rms_norm(residual, update, self._norm, self._eps)
        return functional.linear(x, self._head)

    def _normalize_heads(self, qkv: Tensor, norms: tuple[Tensor, Tensor]) -> None:
        heads = qkv.view(len(qkv), -1, self.head_dim)
        rotated = heads[:, : self.num_heads + self.num_kv_heads]
        parts = rotated.split([self.num_heads, self.num_kv_heads], dim=1)
        for part, weight in zip(parts, norms, strict=True):
            normalized = functional.rms_norm(part.float(), (self.head_dim,), None, self._eps)
            part.copy_(weight * normalized.to(weight.dtype))


def _problem(model: Any, max_length: int) -> str | None:
    """What keeps the model from being run here, or None."""
    config = model.config
    if config.model_type not in _MODEL_TYPES:
        return f"{config.model_type} is none of {', '.join(_MODEL_TYPES)}"
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope_type not in _ROPE_TYPES:
        return f"{rope_type} rotation depends on the length of the text"
    window = getattr(config, "sliding_window", None)
    if window is not None and window < max_length:
        return f"its sliding window of {window} is shorter than {max_length} tokens"
    if getattr(config, "hidden_act", "silu") != "silu":
        return f"its activation is {config.hidden_act}"
    if model.get_output_embeddings().bias is not None:
        return "its output layer has a bias"
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if any(hasattr(layer, "base_layer") for layer in ends):
        return "LoRA beside its embedding or its output layer"
    try:
        for layer in model.model.layers:
            for part in _parts(layer):
                check_layers(part)
    except UnsupportedWeightError as error:
        return str(error)
    return None


def _parts(layer: Any) -> list[list[Any]]:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [attention.o_proj],
        [mlp.gate_proj, mlp.up_proj],
        [mlp.down_proj],
    ]


def _take_layers(model: Any, dtype: torch.dtype, *, dense: bool) -> list[_Layer]:
    """All layers; each is deleted from the model, so that one at a time is there twice."""
    layers = []
    for index, layer in enumerate(model.model.layers):
        qkv, output, gate_up, down = (
            projection(part, dtype, dense=dense) for part in _parts(layer)
        )
        attention = layer.self_attn
        qk_norms = None
        if hasattr(attention, "q_norm"):
            qk_norms = (attention.q_norm.weight.data, attention.k_norm.weight.data)
        layers.append(
            _Layer(
                input_norm=layer.input_layernorm.weight.data,
                qkv=qkv,
                qk_norms=qk_norms,
                output=output,
                mlp_norm=layer.post_attention_layernorm.weight.data,
                gate_up=gate_up,
                down=down,
            )
        )
        model.model.layers[index] = nn.Identity()
    return layers


def _rotation(model: Any, max_length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [positions, head size / 2], float32, both halves of a head being alike."""
    positions = torch.arange(max_length, device=model.device)[None]
    like = torch.zeros(1, device=model.device, dtype=torch.float32)
    cos, sin = model.model.rotary_emb(like, positions)
    half = cos.shape[-1] // 2
    return cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()
