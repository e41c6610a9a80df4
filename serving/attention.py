"""Attention of new tokens over the runs of the cache that their rows own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from serving.ops import triton_can_build


@dataclass(frozen=True)
class StepInput:
    """The tokens of one forward pass, those of a row one behind the other."""

    ids: Tensor
    """[tokens]"""
    positions: Tensor
    """[tokens], counted from the first token of each row's prompt."""
    slots: Tensor
    """[tokens]: where in the cache their keys and values go."""
    ends: Tensor
    """[rows + 1]: 0, then how many of the tokens belong to this row or one before; int32."""
    starts: Tensor
    """[rows + 1]: where in the cache each row begins; the last number stands for no row; int32."""
    lengths: Tensor
    """[rows]: tokens of each row that are in the cache after this pass; int32."""
    most_tokens: int
    """Tokens of the row that brings most."""

    @property
    def last_tokens(self) -> Tensor:
        """[rows]: the place of each row's last token."""
        return self.ends[1:].long() - 1


Attend = Callable[[Tensor, Tensor, Tensor, StepInput], Tensor]
"""Queries [tokens, heads, head size], keys and values [places, key-value heads, head size] of one
layer of the cache, and which token belongs to whom, to [tokens, heads, head size]."""


def choose_attention(
    device: torch.device, dtype: torch.dtype, head_dim: int, most_keys: int
) -> Attend:
    """The fastest attention for a device; no row is ever longer than `most_keys`."""
    if not supports_flash(device, dtype, head_dim):
        return attend_by_row
    flash = functools.partial(attend_flash, most_keys=most_keys)
    if not triton_can_build():
        return flash
    from serving.single_token import attend_single

    def attend(queries: Tensor, keys: Tensor, values: Tensor, step: StepInput) -> Tensor:
        attend_step = attend_single if step.most_tokens == 1 else flash
        return attend_step(queries, keys, values, step)

    return attend


def supports_flash(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether `attend_flash` works here."""
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0) and head_dim in range(8, 257, 8)


def attend_flash(
    queries: Tensor, keys: Tensor, values: Tensor, step: StepInput, most_keys: int
) -> Tensor:
    """All rows in one kernel that reads no more of the cache than they have written; see `Attend`.

    No row is ever longer than `most_keys`.
    """
    # FlashAttention takes rows that begin anywhere, as long as it is told what is used of each.
    # torch 2.11's public `varlen_attn` cannot say so yet.
    output: Tensor = torch.ops.aten._flash_attention_forward(
        queries,
        keys,
        values,
        step.ends,
        step.starts,
        step.most_tokens,
        most_keys,
        0.0,
        step.most_tokens > 1,
        False,
        seqused_k=step.lengths,
    )[0]
    return output


def attend_by_row(queries: Tensor, keys: Tensor, values: Tensor, step: StepInput) -> Tensor:
    """The same with PyTorch's attention, row by row, on any device; see `Attend`."""
    output = torch.empty_like(queries)
    ends = step.ends.tolist()
    for row, (start, length) in enumerate(
        zip(step.starts.tolist(), step.lengths.tolist(), strict=False)
    ):
        first, end = ends[row], ends[row + 1]
        q = queries[first:end].transpose(0, 1)
        k = keys[start : start + length].transpose(0, 1)
        v = values[start : start + length].transpose(0, 1)
        output[first:end] = functional.scaled_dot_product_attention(
            q[None],
            k[None],
            v[None],
            attn_mask=_causal_mask(end - first, length, q.device),
            enable_gqa=True,
        )[0].transpose(0, 1)
    return output


def _causal_mask(num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
    """The queries are the last tokens of their row and see all that is before them."""
    if num_queries == 1:
        return None
    seen = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    return seen.tril(num_keys - num_queries)
