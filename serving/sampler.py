"""Chooses the next token of every row on the device, each row with its own settings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from serving.sampling import SamplingParams

NO_TOKEN = -1

_FIELDS = ("token", "position", "start", "num_generated", "min_new", "top_k", "seed", "active")


class Rows:
    """What the device must know of every row, one column each.

    `token` is the one to be read next and `position` its place behind the start of the prompt;
    `start` is where the row begins in the cache. A column without a request reads and writes the
    cache's spare place. One column more than rows, which stays without a request.
    """

    def __init__(self, max_rows: int, vocab_size: int, spare: int, device: torch.device) -> None:
        """All columns are without a request."""
        idle = {"start": spare, "min_new": 1}
        column = [idle.get(name, 0) for name in _FIELDS]
        self.device = device
        self._idle = torch.tensor(column, device=device)
        self._whole_numbers = self._idle[:, None].repeat(1, max_rows + 1)
        self._numbers = torch.zeros(2, max_rows + 1, device=device)
        self.suppressed = torch.zeros(max_rows + 1, vocab_size, dtype=torch.bool, device=device)
        named = dict(zip(_FIELDS, self._whole_numbers, strict=True))
        self.token, self.position, self.start = named["token"], named["position"], named["start"]
        self.num_generated, self.min_new = named["num_generated"], named["min_new"]
        self.top_k, self.seed, self.active = named["top_k"], named["seed"], named["active"]
        self.temperature, self.top_p = self._numbers

    def fill(
        self, first: int, columns: Sequence[tuple[SamplingParams, int, int]], suppressed: Tensor
    ) -> None:
        """Put requests into the columns from `first` on.

        Args:
            first: column of the first one.
            columns: settings, start in the cache and number of prompt tokens of each.
            suppressed: [vocabulary] what is suppressed for everybody.
        """
        part = slice(first, first + len(columns))
        # a row without minimum still gives one token: an empty answer helps nobody
        whole = [
            [0, length, start, 0, max(1, params.min_new_tokens), params.top_k, params.seed, 1]
            for params, start, length in columns
        ]
        numbers = [[params.temperature, params.top_p] for params, _, _ in columns]
        self._whole_numbers[:, part] = upload(whole, torch.long, self.device).T
        self._numbers[:, part] = upload(numbers, torch.float32, self.device).T
        self.suppressed[part] = suppressed
        for column, (params, _, _) in enumerate(columns, first):
            if params.suppressed_ids:
                ids = upload(list(params.suppressed_ids), torch.long, self.device)
                self.suppressed[column, ids] = True

    def move(self, source: int, target: int) -> None:
        """Copy a column over another; the source is without a request afterwards."""
        for values in (self._whole_numbers, self._numbers):
            values[:, target] = values[:, source]
        self.suppressed[target] = self.suppressed[source]
        self.clear(source)

    def clear(self, column: int) -> None:
        """Leave a column without a request."""
        self._whole_numbers[:, column] = self._idle
        self._numbers[:, column] = 0


def upload(values: list[int] | list[list[int]] | list[list[float]], dtype: torch.dtype,
           device: torch.device) -> Tensor:  # fmt: skip
    """A tensor on the device, without waiting for what the device is still busy with."""
    tensor = torch.tensor(values, dtype=dtype)
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def sample(logits: Tensor, rows: Rows, part: slice, eos_ids: Tensor) -> Tensor:
    """Next token ids [rows] from logits [rows, vocabulary] for the columns `part`.

    `NO_TOKEN` for a row whose logits are no numbers.
    """
    logits = logits.float().masked_fill(rows.suppressed[part], -torch.inf)
    too_short = rows.num_generated[part] < rows.min_new[part]
    ends = logits.index_select(1, eos_ids)
    logits.index_copy_(1, eos_ids, ends.masked_fill(too_short[:, None], -torch.inf))
    temperature = rows.temperature[part]
    greedy = temperature == 0
    # a greedy row keeps its logits; any divisor other than 0 will do
    scaled = logits / torch.where(greedy, 1.0, temperature)[:, None]
    draws = uniform(rows.seed[part], rows.num_generated[part])
    sampled = sample_nucleus(scaled, rows.top_p[part], rows.top_k[part], draws)
    highest, likeliest = logits.max(dim=-1)
    ids = torch.where(greedy, likeliest, sampled)
    return torch.where(highest.isfinite(), ids, NO_TOKEN)


def sample_nucleus(logits: Tensor, top_p: Tensor, top_k: Tensor, draws: Tensor) -> Tensor:
    """Ids [rows] picked by uniform `draws` [rows] from the likeliest tokens of the logits.

    Those are the `top_k` [rows] likeliest (0: all), and of them as many as it takes for their share
    of the probability to reach `top_p` [rows].
    """
    probabilities, order = torch.softmax(logits, dim=-1).sort(dim=-1, descending=True)
    rank = torch.arange(logits.shape[-1], device=logits.device)
    most = torch.where(top_k == 0, logits.shape[-1], top_k)
    probabilities = torch.where(rank < most[:, None], probabilities, 0.0)
    cumulative = probabilities.cumsum(dim=-1)
    # In the nucleus is a token if those before it have not reached top_p: the first always is.
    # One without any probability never is, or a draw that rounds to 1 could pick it.
    before = cumulative - probabilities
    nucleus = (before < top_p[:, None] * cumulative[:, -1:]) & (probabilities > 0)
    cumulative = torch.where(nucleus, probabilities, 0.0).cumsum(dim=-1)
    target = draws[:, None] * cumulative[:, -1:]
    place = (cumulative <= target).sum(dim=-1, keepdim=True)
    place = place.minimum(nucleus.sum(dim=-1, keepdim=True) - 1).clamp_min(0)
    return order.gather(1, place).squeeze(1)


def uniform(seed: Tensor, counter: Tensor) -> Tensor:
    """A number in [0, 1) for every pair of a seed and a counter, both [rows] int64.

    No state: the same pair gives the same number on any device. Source: SplitMix64,
    doi:10.1145/2660193.2660195.
    """
    x = seed + (counter + 1) * _GOLDEN
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    x = x ^ _shift_right(x, 31)
    return _shift_right(x, 40).float() * 2.0**-24


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Of the 64 bits as they stand, not of the signed number."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    return x - (1 << 64)


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)
