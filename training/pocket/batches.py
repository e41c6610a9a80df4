"""Batches of pre-training examples, encoded ahead of the device by other processes."""

from __future__ import annotations

import collections
import functools
import itertools
import multiprocessing
import random
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy
import numpy.typing
import torch
from torch import Tensor

from adapters.prompts import Example, PromptFormat
from training.cards import load_cards
from training.pocket.corpus import Corpus

NOT_LEARNED = -100
"""Target of a place from which nothing is to be told; what cross-entropy leaves out by default."""
_Ids = numpy.typing.NDArray[numpy.int64]
_CHUNK = 4_000
"""Examples that a process encodes at a time."""
_LENGTH_UNIT = 16
"""Rows are padded to a multiple of it, so that there are few shapes."""


@dataclass(frozen=True)
class Batch:
    """Rows of ids padded on the right; as many rows as fit, so that a length has one shape."""

    ids: Tensor
    """[rows, length] int64"""
    targets: Tensor
    """[rows, length] int64: the id that follows, or NOT_LEARNED."""

    def to(self, device: torch.device) -> Batch:
        """On the device, without waiting for the work that it has still to do."""
        if device.type != "cuda":
            return self
        return Batch(
            self.ids.pin_memory().to(device, non_blocking=True),
            self.targets.pin_memory().to(device, non_blocking=True),
        )


def endless_batches(folder: Path, batch_tokens: int, seed: int, processes: int) -> Iterator[Batch]:
    """Batches of ever new examples, encoded with the tokenizer in `folder`; on the CPU."""
    # spawned, because a fork would copy the CUDA context
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        seeds = itertools.count(seed * 1_000_000)
        pending: collections.deque[Future[list[tuple[_Ids, _Ids]]]] = collections.deque()
        while True:
            while len(pending) < 2 * processes:
                pending.append(pool.submit(_encode_chunk, folder, batch_tokens, next(seeds)))
            for ids, targets in pending.popleft().result():
                yield Batch(torch.from_numpy(ids), torch.from_numpy(targets))


def _encode_chunk(folder: Path, batch_tokens: int, seed: int) -> list[tuple[_Ids, _Ids]]:
    """As arrays: a tensor would travel between processes as a file of its own."""
    examples = list(_corpus(folder).examples(_CHUNK, seed))
    batches = list(batches_of(examples, batch_tokens))
    random.Random(seed).shuffle(batches)
    return [(batch.ids.numpy(), batch.targets.numpy()) for batch in batches]


@functools.cache
def _corpus(folder: Path) -> Corpus:
    return Corpus(load_cards(), PromptFormat.from_folder(folder))


def batches_of(examples: list[Example], batch_tokens: int) -> Iterator[Batch]:
    """All examples, rows of like length together; at most `batch_tokens` a batch with padding.

    Raises:
        ValueError: an example is longer than that.
    """
    groups: list[list[Example]] = []
    for example in sorted(examples, key=lambda example: len(example.input_ids)):
        if _padded(example) > batch_tokens:
            raise ValueError(
                f"batch_tokens must be at least {_padded(example)}: an example is that long"
            )
        if not groups or (len(groups[-1]) + 1) * _padded(example) > batch_tokens:
            groups.append([])
        groups[-1].append(example)
    return (_batch(group, batch_tokens) for group in groups)


def _batch(group: list[Example], batch_tokens: int) -> Batch:
    length = _padded(group[-1])
    rows = batch_tokens // length
    ids = torch.zeros(rows, length, dtype=torch.long)
    targets = torch.full((rows, length), NOT_LEARNED, dtype=torch.long)
    for row, example in enumerate(group):
        end = len(example.input_ids)
        ids[row, :end] = torch.tensor(example.input_ids)
        learned = slice(example.prompt_length - 1, end - 1)
        targets[row, learned] = ids[row, example.prompt_length : end]
    return Batch(ids, targets)


def _padded(example: Example) -> int:
    return -(-len(example.input_ids) // _LENGTH_UNIT) * _LENGTH_UNIT
