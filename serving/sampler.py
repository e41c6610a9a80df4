"""Chooses the next token of every row, each row with its own settings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapters.styles import Preset


@dataclass(frozen=True)
class SamplingParams:
    """Settings of one row."""

    preset: Preset
    seed: int | None = None


class Sampler:
    """Samples for a fixed set of rows.

    Every row draws from its own random numbers, so that a seeded request gets the same ones
    whoever its neighbours are.
    """

    def __init__(
        self,
        rows: Sequence[SamplingParams],
        *,
        eos_ids: Sequence[int],
        suppressed_ids: Sequence[int],
        device: torch.device,
    ) -> None:
        """Put the settings of all rows on the device once."""
        presets = [row.preset for row in rows]
        self._random = [random.Random(row.seed) for row in rows]
        self._greedy = torch.tensor([preset.greedy for preset in presets], device=device)
        # A greedy row keeps its logits; any divisor other than 0 will do.
        self._temperature = torch.tensor(
            [1.0 if preset.greedy else preset.temperature for preset in presets], device=device
        )
        self._top_p = torch.tensor([preset.top_p for preset in presets], device=device)
        # At least one: an empty answer helps nobody.
        self._min_new = torch.tensor(
            [max(1, preset.min_new_tokens) for preset in presets], device=device
        )
        self._eos = torch.tensor(list(eos_ids), dtype=torch.long, device=device)
        self._suppressed = torch.tensor(list(suppressed_ids), dtype=torch.long, device=device)
        self._all_greedy = bool(self._greedy.all())

    def sample(self, logits: Tensor, num_generated: int) -> Tensor:
        """Next token ids [rows] from logits [rows, vocabulary], after `num_generated` tokens."""
        logits = logits.float().clone()
        logits[:, self._suppressed] = -torch.inf
        too_short = num_generated < self._min_new
        if bool(too_short.any()):
            ends = logits[:, self._eos]
            logits[:, self._eos] = torch.where(too_short[:, None], -torch.inf, ends)
        likeliest = logits.argmax(dim=-1)
        if self._all_greedy:
            return likeliest
        draws = torch.tensor([source.random() for source in self._random], device=logits.device)
        sampled = sample_top_p(logits / self._temperature[:, None], self._top_p, draws)
        return torch.where(self._greedy, likeliest, sampled)


def sample_top_p(logits: Tensor, top_p: Tensor, draws: Tensor) -> Tensor:
    """Ids [rows] picked by uniform `draws` [rows] from the `top_p` [rows] nucleus of the logits."""
    probabilities, order = torch.softmax(logits, dim=-1).sort(dim=-1, descending=True)
    cumulative = probabilities.cumsum(dim=-1)
    # In the nucleus is a token if those before it have not reached top_p: the first always is.
    # One without any probability never is, or a draw that rounds to 1 could pick it.
    nucleus = (cumulative - probabilities < top_p[:, None]) & (probabilities > 0)
    cumulative = torch.where(nucleus, probabilities, 0.0).cumsum(dim=-1)
    target = draws[:, None] * cumulative[:, -1:]
    place = (cumulative <= target).sum(dim=-1, keepdim=True)
    place = place.minimum(nucleus.sum(dim=-1, keepdim=True) - 1)
    return order.gather(1, place).squeeze(1)
