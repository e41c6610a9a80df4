"""Attention over rows that lie end to end in one sequence, each row to itself.

As transformers does it with PyTorch's `scaled_dot_product_attention`, a mask over all pairs of
tokens keeps rows apart, and most of the work goes into pairs that it hides.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

BY_ROW = "laconic_by_row"
"""Its name among the attention implementations of transformers."""
_SUPPORTED_CAPABILITY = (8, 0)
# PyTorch 2.11 takes fewer key-value heads than query heads without being asked
_GROUPED = "enable_gqa" in inspect.signature(varlen_attn).parameters
_MOST_HEAD_DIM = 256


def use_attention_by_row(model: PreTrainedModel) -> bool:
    """Let the model attend by row where the device and the architecture can; True if it does.

    Batches without row boundaries, as in generation, are attended to as before.
    """
    config = model.config.get_text_config()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    possible = (
        model.device.type == "cuda"
        and torch.cuda.get_device_capability(model.device) >= _SUPPORTED_CAPABILITY
        and model.dtype in (torch.bfloat16, torch.float16)
        and config._attn_implementation == "sdpa"
        and head_dim <= _MOST_HEAD_DIM
    )
    if possible:
        model.set_attn_implementation(BY_ROW)
    return possible


def attend_within_rows(  # noqa: PLR0913 - as transformers calls it
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each row.

    Args:
        module: the attention layer.
        query: [1, heads, tokens, head_dim].
        key: [1, key-value heads, tokens, head_dim].
        value: as key.
        attention_mask: for batches without row boundaries.
        scaling: of the products; 1/sqrt(head_dim) if None.
        sliding_window: a token sees so many, itself included; all before it if None.
        cu_seq_lens_q: int32, [rows + 1], where rows begin, and the end; None for other batches.
        max_length_q: of the longest row, in tokens.
        options: what other batches are attended to with.

    Returns:
        [1, tokens, heads, head_dim], and no attention weights.
    """
    if cu_seq_lens_q is None or max_length_q is None:
        masked: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return masked
    options = {"enable_gqa": True} if _GROUPED else {}
    result: Any = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        scale=scaling,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        **options,
    )
    return result.unsqueeze(0), None


def _mask(*args: Any, attention_mask: Tensor | None = None, **options: Any) -> Tensor | None:
    """None for rows end to end, whose boundaries come along, and for what is only causal."""
    if attention_mask is None:
        return None
    mask: Tensor | None = sdpa_mask(*args, attention_mask=attention_mask, **options)
    return mask


AttentionInterface.register(BY_ROW, attend_within_rows)
AttentionMaskInterface.register(BY_ROW, _mask)
