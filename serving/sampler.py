"""Chooses the next token of every row on the device, each row with its own settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from serving.sampling import SamplingParams

NO_TOKEN = -1

_FIELDS = ("token", "position", "start", "num_generated", "min_new", "top_k", "seed", "active")


@dataclass(frozen=True)
class Settings:
    """How to choose the next token of some rows; every tensor has a line for each of them."""

    suppressed: Tensor
    """[rows, vocabulary]: what is never chosen."""
    temperature: Tensor
    """0 for the likeliest token."""
    top_p: Tensor
    top_k: Tensor
    """0 for no limit."""
    min_new: Tensor
    num_generated: Tensor
    seed: Tensor


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

    def settings(self, part: slice) -> Settings:
        """What the columns `part` are sampled with."""
        return Settings(
            suppressed=self.suppressed[part],
            temperature=self.temperature[part],
            top_p=self.top_p[part],
            top_k=self.top_k[part],
            min_new=self.min_new[part],
            num_generated=self.num_generated[part],
            seed=self.seed[part],
        )

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


def download(values: Tensor) -> Tensor:
    """A copy on the host; from a CUDA device it is complete once what runs there now is done."""
    if values.device.type != "cuda":
        return values.clone()
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return copy.copy_(values, non_blocking=True)


def sample(logits: Tensor, rows: Settings, eos_ids: Tensor) -> Tensor:
    """See `serving.ops.Ops`."""
    logits = logits.float().masked_fill(rows.suppressed, -torch.inf)
    too_short = rows.num_generated < rows.min_new
    ends = logits.index_select(1, eos_ids)
    logits.index_copy_(1, eos_ids, ends.masked_fill(too_short[:, None], -torch.inf))
    highest, likeliest = logits.max(dim=-1)
    greedy = rows.temperature == 0
    likeliest = likeliest.where(highest.isfinite(), NO_TOKEN)
    if not logits.is_cuda and bool(greedy.all()):
        return likeliest  # nothing to sort; a CUDA device would have to be waited for
    # a greedy row keeps its logits; any divisor other than 0 will do
    temperature = torch.where(greedy, 1.0, rows.temperature)
    weights = torch.exp((logits - highest[:, None]) / temperature[:, None])
    nucleus = keep_likeliest(weights, rows.top_p, rows.top_k)
    sampled = draw(nucleus, uniform(rows.seed, rows.num_generated))
    return torch.where(greedy | ~highest.isfinite(), likeliest, sampled)


def keep_likeliest(weights: Tensor, top_p: Tensor, top_k: Tensor) -> Tensor:
    """Weights [rows, vocabulary], but 0 for all but the likeliest tokens.

    Those are the `top_k` [rows] likeliest (0: all), and of them as many as it takes for their share
    of the weight to reach `top_p` [rows]. Tokens as likely as the last one stay as well.
    """
    ordered = weights.sort(dim=-1, descending=True).values
    last = torch.where(top_k == 0, weights.shape[-1], top_k).clamp_max(weights.shape[-1]) - 1
    ordered = ordered.where(ordered >= ordered.gather(1, last[:, None]), 0.0)
    cumulative = ordered.cumsum(dim=-1)
    # the first token for which the share is reached is the last one that stays
    short = (cumulative < top_p[:, None] * cumulative[:, -1:]).sum(dim=-1, keepdim=True)
    floor = ordered.gather(1, short.clamp_max(weights.shape[-1] - 1))
    return weights.where(weights >= floor, 0.0)


def draw(weights: Tensor, numbers: Tensor) -> Tensor:
    """Ids [rows] with chances in proportion to weights [rows, vocabulary].

    `numbers` [rows] in [0, 1) say where on the line of all weights the id lies.
    """
    cumulative = weights.cumsum(dim=-1)
    place = (cumulative <= numbers[:, None] * cumulative[:, -1:]).sum(dim=-1)
    # a number that rounds up to the end of the line means the last token on it
    tokens = torch.arange(weights.shape[-1], device=weights.device)
    return place.minimum(tokens.where(weights > 0, 0).amax(dim=-1))


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
