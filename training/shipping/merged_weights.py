"""Weights and adapter of a model as plain weights.

The sums are made in float32, layer by layer, and rounded once to the precision of the result,
which is never 4-bit: most of what an adapter changes is smaller than a 4-bit step.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn
from transformers import PreTrainedModel


@torch.no_grad()
def merge_layers(model: PreTrainedModel, tensors: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Replace every layer with LoRA or 4-bit weights by a plain one, one after the other."""
    # Names, because a list of layers would keep all that is replaced in memory.
    for path in [name for name, layer in model.named_modules() if isinstance(layer, LoraLayer)]:
        layer: Any = model.get_submodule(path)
        plain = layer.base_layer = _unquantized(layer.get_base_layer())
        plain.weight.data = plain.weight.data.float()
        merged = _merged_weight(layer, f"base_model.model.{path}", tensors)
        plain.weight.data = merged.to(dtype)
        model.set_submodule(path, plain)
    for path in [name for name, layer in model.named_modules() if _is_quantized(layer)]:
        model.set_submodule(path, _unquantized(model.get_submodule(path)).to(dtype))
    if getattr(model, "hf_quantizer", None) is not None:
        model.hf_quantizer.remove_quantization_config(model)


def _merged_weight(layer: Any, prefix: str, tensors: dict[str, Tensor]) -> Tensor:
    """Weight and adapter of a LoRA layer, DoRA included, whose weight is float32 already."""
    for name, parameter in layer.named_parameters():
        if name.startswith("lora_"):
            # as precise as the file has it: the server's loading rounds to the model's precision
            key = f"{prefix}.{name.replace('.default', '')}"
            tensor = tensors[key if key in tensors else key.removesuffix(".weight")]
            parameter.data = tensor.to(parameter.device, torch.float32)
    [name] = layer.active_adapters
    weight: Tensor = layer.base_layer.weight.data
    if name in layer.lora_variant:
        merged: Tensor = layer.lora_variant[name].merge_safe(layer, name, weight)
    else:
        merged = weight + layer.get_delta_weight(name)
    return merged


def _is_quantized(layer: nn.Module) -> bool:
    return hasattr(getattr(layer, "weight", None), "quant_state")


def _unquantized(layer: Any) -> Any:
    """The layer itself, or a float32 one with the values that its 4-bit weights stand for."""
    if not _is_quantized(layer):
        return layer
    layer.weight.quant_state.dtype = torch.float32  # else it rounds to what the server computes in
    plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    plain.weight = nn.Parameter(dequantize_module_weight(layer), requires_grad=False)
    plain.bias = layer.bias
    return plain


def round_weights(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Bring all that is left to the precision of the result; raises ValueError if it overflows."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(dtype)
        if not bool(torch.isfinite(parameter.data).all()):
            kind = str(dtype).removeprefix("torch.")
            raise ValueError(f"{name} has values that {kind} cannot hold; use --dtype bfloat16")
