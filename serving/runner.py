"""Generates a batch of rows with a loaded model, one step for all rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache, PreTrainedModel

from serving.sampler import Sampler, SamplingParams
from serving.types import FinishReason


@dataclass(frozen=True)
class Row:
    """One prompt and how to answer it."""

    prompt_ids: list[int]
    params: SamplingParams


@dataclass(frozen=True)
class Output:
    """Generated ids, without the end-of-text token."""

    ids: list[int]
    finish_reason: FinishReason


def generate(
    model: PreTrainedModel,
    rows: Sequence[Row],
    *,
    eos_ids: Sequence[int],
    suppressed_ids: Sequence[int] = (),
    abandoned: Callable[[], Sequence[bool]] | None = None,
) -> list[Output]:
    """Answer all rows; their outputs in the same order.

    Args:
        model: a causal language model in evaluation mode.
        rows: the prompts, with sampling settings of their own.
        eos_ids: ids that end an answer.
        suppressed_ids: ids that are never generated.
        abandoned: asked before every step which rows nobody waits for any more.
    """
    sampler = Sampler(
        [row.params for row in rows],
        eos_ids=eos_ids,
        suppressed_ids=suppressed_ids,
        device=model.device,
    )
    limits = [row.params.preset.max_new_tokens for row in rows]
    generated: list[list[int]] = [[] for _ in rows]
    finished: list[FinishReason | None] = [None] * len(rows)
    ids, mask = _left_padded([row.prompt_ids for row in rows], model.device)
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        for step in range(max(limits)):
            positions = (mask.cumsum(dim=-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
            logits = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            ids = sampler.sample(logits, step)[:, None]
            for row, token in enumerate(ids[:, 0].tolist()):
                if finished[row] is None:
                    finished[row] = _take(token, generated[row], limits[row], eos_ids)
            gone = abandoned() if abandoned is not None else [False] * len(rows)
            if all(done is not None or left for done, left in zip(finished, gone, strict=True)):
                break
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    return [
        Output(tokens, reason or "length")
        for tokens, reason in zip(generated, finished, strict=True)
    ]


def _take(
    token: int, generated: list[int], limit: int, eos_ids: Sequence[int]
) -> FinishReason | None:
    """Add a token to a row; returns why the row is finished, if it is."""
    if token in eos_ids:
        return "stop"
    generated.append(token)
    return "length" if len(generated) == limit else None


def _left_padded(
    prompts: list[list[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, both [rows, longest prompt], so that all prompts end together."""
    longest = max(len(prompt) for prompt in prompts)
    ids = [[0] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
