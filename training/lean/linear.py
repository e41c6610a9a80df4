"""A 4-bit linear layer and its LoRA pair as one step of autograd.

PEFT's layer is a dozen small steps, each with Python of its own, and copies its output four times;
on a fast GPU that is what an optimizer step waits for. The products and their precision are the
same here, but for the output being rounded once instead of three times.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import dequantize_4bit, dequantize_blockwise
from peft.tuners.lora.bnb import Linear4bit
from torch import Tensor, nn
from torch.nn.functional import linear


def fuse_lora(model: nn.Module) -> int:
    """Fuse the LoRA layers over 4-bit weights, in place; returns how many there are.

    Their scales, which are quantized in their turn, are expanded: a third of a gigabyte for a model
    of 7B, and one kernel less for each product.
    """
    layers = [module for module in model.modules() if type(module) is Linear4bit]
    for layer in layers:
        layer.__class__ = FusedLinear4bit
        base: Any = layer.base_layer
        _expand_scales(base.weight.quant_state)
    return len(layers)


class FusedLinear4bit(Linear4bit):  # type: ignore[misc]
    """PEFT's layer, which still does whatever is not plain LoRA with one adapter."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        names = self.active_adapters
        plain = len(names) == 1 and names[0] in self.lora_A and names[0] not in self.lora_variant
        if not plain or self.disable_adapters or self.merged or args or kwargs:
            unfused: Tensor = super().forward(x, *args, **kwargs)
            return unfused
        (name,) = names
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        dropped = self.lora_dropout[name](x)
        result: Tensor = _LinearWithPair.apply(  # type: ignore[no-untyped-call]
            x,
            None if dropped is x else dropped,
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            (self.base_layer, self.scaling[name]),
        )
        return result


class _LinearWithPair(torch.autograd.Function):
    """x W^T + bias + scaling (dropped A^T) B^T, where W and bias are frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        down: Tensor,
        up: Tensor,
        frozen: tuple[bnb.nn.Linear4bit, float],
    ) -> Tensor:
        base, scaling = frozen
        bias = None if base.bias is None else base.bias.to(x.dtype)
        result = linear(x, _expanded(base, x.dtype), bias)
        inputs = (x if dropped is None else dropped).reshape(-1, x.shape[-1])
        down = down.to(x.dtype)
        up = torch.mul(up, scaling, out=torch.empty_like(up, dtype=x.dtype))
        hidden = inputs @ down.t()
        result.view(-1, result.shape[-1]).addmm_(hidden, up.t())
        ctx.save_for_backward(inputs, hidden, down, up)
        ctx.base, ctx.scaling, ctx.has_dropped = base, scaling, dropped is not None
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, hidden, down, up = ctx.saved_tensors
        shape = (*gradient.shape[:-1], inputs.shape[-1])
        gradient = gradient.reshape(-1, gradient.shape[-1])
        for_hidden = gradient @ up
        for_down = for_hidden.t() @ inputs
        for_up = torch.empty_like(up, dtype=torch.float32)
        torch.mul(gradient.t() @ hidden, ctx.scaling, out=for_up)
        for_x, for_dropped = gradient @ _expanded(ctx.base, gradient.dtype), None
        if ctx.has_dropped:
            for_dropped = (for_hidden @ down).view(shape)
        else:
            for_x.addmm_(for_hidden, down)
        return for_x.view(shape), for_dropped, for_down, for_up, None


def _expanded(base: bnb.nn.Linear4bit, dtype: torch.dtype) -> Tensor:
    """The weight [out_features, in_features] as bitsandbytes gives it."""
    weight: Tensor = dequantize_4bit(base.weight, base.weight.quant_state)
    return weight.to(dtype)


def _expand_scales(state: Any) -> None:
    if state.nested:
        scales = dequantize_blockwise(state.absmax, state.state2)
        state.absmax = (scales + state.offset).float()
        state.nested, state.state2, state.offset = False, None, None
