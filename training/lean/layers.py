"""Norms and gated layers that keep less for the backward pass, in fewer steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

# Their weight multiplies the normalized numbers as it stands; Gemma's is an offset to one.
_NORMS = {"MistralRMSNorm", "LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"}
_GATED = {"MistralMLP", "LlamaMLP", "Qwen2MLP", "Qwen3MLP"}


def lighten_layers(model: nn.Module) -> int:
    """Lighten the norms and gated layers of known architectures, in place; returns their number."""
    count = 0
    for module in model.modules():
        kind = type(module)
        if kind.__name__ in _NORMS:
            module.__class__ = type("Lean" + kind.__name__, (_Norm, kind), {})
        elif kind.__name__ in _GATED and type(module.act_fn).__name__ in ("SiLUActivation", "SiLU"):
            module.__class__ = type("Lean" + kind.__name__, (_Gated, kind), {})
        else:
            continue
        count += 1
    return count


class _Norm:
    """In one step, with a factor for each token kept instead of copies in float32."""

    weight: Tensor
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        weight = self.weight
        return rms_norm(hidden_states, weight.shape, weight, self.variance_epsilon)


class _Gated:
    """Keeps gate and up; the activation between them is computed a second time."""

    down_proj: nn.Module
    gate_proj: nn.Module
    up_proj: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = _GatedSilu.apply(  # type: ignore[no-untyped-call]
            self.gate_proj(x), self.up_proj(x)
        )
        result: Tensor = self.down_proj(gated)
        return result


class _GatedSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        for_gate = torch.ops.aten.silu_backward(gradient * up, gate)
        return for_gate, silu(gate).mul_(gradient)
