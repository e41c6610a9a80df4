"""Memory for keys and values: one pool of tokens, of which every request holds one run."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_TOKENS = 16
"""Runs start and end at multiples of this many tokens."""


@dataclass(frozen=True)
class CacheRun:
    """Consecutive tokens of the pool that belong to one request."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """The first token behind the run."""
        return self.start + self.length


class CacheAllocator:
    """Hands out runs of a pool of `num_tokens` tokens; first fit, neighbours merge when freed.

    A request gets room for its prompt and its longest answer when it is admitted, so nothing that
    runs can ever be short of memory.
    """

    def __init__(self, num_tokens: int) -> None:
        """All of the pool is free, but for a part of a block at its end."""
        self.num_tokens = num_tokens // BLOCK_TOKENS * BLOCK_TOKENS
        # Start and length of each gap, in the order of their starts.
        self._gaps: list[tuple[int, int]] = [(0, self.num_tokens)] if self.num_tokens else []

    @property
    def num_free(self) -> int:
        """Tokens that belong to no run."""
        return sum(length for _, length in self._gaps)

    def fits(self, length: int) -> bool:
        """Whether an empty pool could hold a run of `length` tokens."""
        return _whole_blocks(length) <= self.num_tokens

    def allocate(self, length: int) -> CacheRun | None:
        """A run of at least `length` tokens, or None while no gap is long enough."""
        length = _whole_blocks(length)
        for index, (start, gap) in enumerate(self._gaps):
            if gap >= length:
                rest = [(start + length, gap - length)] if gap > length else []
                self._gaps[index : index + 1] = rest
                return CacheRun(start, length)
        return None

    def free(self, run: CacheRun) -> None:
        """Give a run back."""
        index = bisect.bisect(self._gaps, (run.start, 0))
        start, end = run.start, run.end
        if index < len(self._gaps) and self._gaps[index][0] == end:
            end += self._gaps.pop(index)[1]
        if index > 0 and sum(self._gaps[index - 1]) == start:
            index -= 1
            start = self._gaps.pop(index)[0]
        self._gaps.insert(index, (start, end - start))


class KVCache:
    """Keys and values of every layer: [layers, tokens, key-value heads, head size] each."""

    def __init__(
        self,
        num_layers: int,
        num_tokens: int,
        num_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """Take all memory at once; one token more than asked for, see `spare`."""
        shape = (num_layers, num_tokens + 1, num_heads, head_dim)
        self.keys: Tensor = torch.zeros(shape, dtype=dtype, device=device)
        self.values: Tensor = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def spare(self) -> int:
        """A token of no run, where rows without a request write."""
        return self.keys.shape[1] - 1


def _whole_blocks(length: int) -> int:
    return -(-length // BLOCK_TOKENS) * BLOCK_TOKENS
