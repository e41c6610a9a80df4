"""Products with the weights of a model: 4-bit or dense, with LoRA beside them.

The only file that knows how a 4-bit weight is laid out and which kernel multiplies with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from bitsandbytes.functional import dequantize_blockwise
from torch import Tensor, nn
from torch.nn import functional

from serving.ops import device_ops

BLOCK = 64
"""Weights that share a scale, along a row."""
_DENSE = (torch.float32, torch.bfloat16, torch.float16)
_GEMM_ROWS = 4
"""Up to this many tokens the fused kernel of bitsandbytes wins, measured on an H200; for more it is
faster to expand the weight first."""


class UnsupportedWeightError(ValueError):
    """A layer is laid out in a way that this file cannot multiply with."""


class Weight(Protocol):
    """A matrix [outputs, inputs]."""

    def multiply(self, x: Tensor) -> Tensor:
        """[tokens, inputs] to [tokens, outputs]."""
        ...

    def dense(self) -> Tensor:
        """The matrix in float32."""
        ...


class DenseWeight:
    """A matrix in the precision that it is computed in."""

    def __init__(self, matrix: Tensor) -> None:
        """Keep the matrix."""
        self._matrix = matrix

    @classmethod
    def joined(cls, weights: Sequence[DenseWeight]) -> DenseWeight:
        """The rows of all of them, one below the other."""
        return cls(torch.cat([weight._matrix for weight in weights]))

    def multiply(self, x: Tensor) -> Tensor:
        """See `Weight`."""
        return functional.linear(x, self._matrix)

    def dense(self) -> Tensor:
        """See `Weight`."""
        return self._matrix.float()


class Nf4Weight:
    """A matrix in 4-bit NormalFloat, as bitsandbytes packs it.

    `codes` [outputs * inputs / 2, 1] holds two weights a byte, `absmax` [outputs * inputs / 64] the
    float32 scale of each block. Source: arXiv:2305.14314, section 3.
    """

    def __init__(self, codes: Tensor, absmax: Tensor, shape: tuple[int, int]) -> None:
        """Keep what belongs to a matrix of `shape`."""
        self._codes, self._absmax, self._shape = codes, absmax, shape

    @classmethod
    def joined(cls, weights: Sequence[Nf4Weight]) -> Nf4Weight:
        """The rows of all of them, one below the other: no block spans two rows."""
        return cls(
            torch.cat([weight._codes for weight in weights]),
            torch.cat([weight._absmax for weight in weights]),
            (sum(weight._shape[0] for weight in weights), weights[0]._shape[1]),
        )

    def multiply(self, x: Tensor) -> Tensor:
        """See `Weight`."""
        if x.is_cuda and len(x) > _GEMM_ROWS:
            return functional.linear(x, self._expanded(x.dtype))
        product: Tensor = torch.ops.bitsandbytes.gemm_4bit(
            x, self._codes, self._shape, self._absmax, BLOCK, "nf4"
        )
        return product

    def dense(self) -> Tensor:
        """See `Weight`."""
        return self._expanded(torch.float32)

    def _expanded(self, dtype: torch.dtype) -> Tensor:
        if self._codes.is_cuda and dtype != torch.float32:
            return device_ops(self._codes.device).expand_nf4(
                self._codes, self._absmax, self._shape, dtype
            )
        expanded: Tensor = torch.ops.bitsandbytes.dequantize_4bit(
            self._codes, self._absmax, BLOCK, "nf4", self._shape, dtype
        )
        return expanded


class Projection:
    """One or more linear layers with the same input, as one product: x @ W.T + x @ A.T @ B.T.

    The LoRA pairs of the layers are stacked: A one below the other, B as blocks on a diagonal with
    the scale already in it, so that all of them take two small products.
    """

    def __init__(
        self, weight: Weight, bias: Tensor | None, lora_a: Tensor | None, lora_b: Tensor | None
    ) -> None:
        """Keep the parts; `lora_a` is [ranks, inputs], `lora_b` [ranks, outputs]."""
        self._weight, self._bias, self._lora_a, self._lora_b = weight, bias, lora_a, lora_b

    def __call__(self, x: Tensor) -> Tensor:
        """[tokens, inputs] to [tokens, outputs]."""
        y = self._weight.multiply(x)
        if self._bias is not None:
            y += self._bias
        if self._lora_a is not None and self._lora_b is not None:
            y.addmm_(functional.linear(x, self._lora_a), self._lora_b)
        return y


def projection(layers: Sequence[nn.Module], dtype: torch.dtype, *, dense: bool) -> Projection:
    """Join linear layers, with or without LoRA; `dense` expands the weights and merges LoRA.

    Raises:
        UnsupportedWeightError: a layer is quantized in another way, or its LoRA is no plain one.
    """
    check_layers(layers)
    weight = _joined([_weight(_base(layer)) for layer in layers])
    pairs = [_lora_pair(layer) for layer in layers]
    lora_a = torch.cat([pair[0] for pair in pairs])
    lora_b = torch.block_diag(*(pair[1] for pair in pairs))
    bias = _joined_bias([_base(layer) for layer in layers], dtype)
    if dense:
        merged = weight.dense() + lora_b.T @ lora_a
        return Projection(DenseWeight(merged.to(dtype)), bias, None, None)
    if not len(lora_a):
        return Projection(weight, bias, None, None)
    return Projection(weight, bias, lora_a.to(dtype), lora_b.to(dtype).contiguous())


def check_layers(layers: Sequence[Any]) -> None:
    """Raise what `projection` would raise for these layers, without computing anything."""
    for layer in layers:
        _check_weight(_base(layer))
        _check_lora(layer)
    if len({hasattr(_base(layer).weight, "quant_state") for layer in layers}) > 1:
        raise UnsupportedWeightError("some layers of one product are quantized and some are not")


def _check_weight(layer: Any) -> None:
    weight = getattr(layer, "weight", None)
    state = getattr(weight, "quant_state", None)
    if state is None:
        dense = isinstance(layer, nn.Linear) and layer.weight.dtype in _DENSE
        if not dense:
            raise UnsupportedWeightError(f"a {type(layer).__name__} is neither dense nor NF4")
    elif state.quant_type != "nf4" or state.blocksize != BLOCK or state.shape[1] % BLOCK:
        raise UnsupportedWeightError(
            f"{state.quant_type} with blocks of {state.blocksize} for a matrix {tuple(state.shape)}"
        )
    elif getattr(state, "packing_format_for_cpu", False):
        raise UnsupportedWeightError("a forward pass on this processor has repacked the weight")


def _check_lora(layer: Any) -> None:
    if layer is _base(layer):
        return
    names = layer.active_adapters
    variants = getattr(layer, "lora_variant", {})
    plain = len(names) == 1 and not variants and not layer.merged
    if not plain or layer.lora_B[names[0]].bias is not None:
        raise UnsupportedWeightError("not one plain LoRA adapter")


def _base(layer: Any) -> Any:
    """The layer itself, or the one that PEFT has wrapped."""
    return getattr(layer, "base_layer", layer)


def _weight(layer: Any) -> Weight:
    state = getattr(layer.weight, "quant_state", None)
    if state is None:
        return DenseWeight(layer.weight.data)
    absmax = state.absmax
    if state.nested:  # double quantization: the scales are quantized as well
        absmax = dequantize_blockwise(absmax, state.state2) + state.offset
    return Nf4Weight(layer.weight.data.view(-1, 1), absmax.float(), tuple(state.shape))


def _joined(weights: Sequence[Weight]) -> Weight:
    """One weight with the rows of all of them."""
    if isinstance(weights[0], DenseWeight):
        return DenseWeight.joined([w for w in weights if isinstance(w, DenseWeight)])
    return Nf4Weight.joined([w for w in weights if isinstance(w, Nf4Weight)])


def _lora_pair(layer: Any) -> tuple[Tensor, Tensor]:
    """A [rank, inputs] and scaled B [rank, outputs], float32; of rank 0 without LoRA."""
    weight = _base(layer).weight
    inputs, outputs = _base(layer).in_features, _base(layer).out_features
    if layer is _base(layer):
        empty = torch.zeros(0, max(inputs, outputs), device=weight.device)
        return empty[:, :inputs], empty[:, :outputs]
    [name] = layer.active_adapters
    a = layer.lora_A[name].weight.float()
    b = layer.lora_B[name].weight.float()
    return a, b.T * layer.scaling[name]


def _joined_bias(layers: Sequence[Any], dtype: torch.dtype) -> Tensor | None:
    biases = [layer.bias for layer in layers]
    if all(bias is None for bias in biases):
        return None
    zeros = [layer.weight.new_zeros(layer.out_features, dtype=dtype) for layer in layers]
    parts = zip(biases, zeros, strict=True)
    return torch.cat([zero if bias is None else bias.to(dtype) for bias, zero in parts])
