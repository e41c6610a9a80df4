"""The loss of known answers under a model as the server runs it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from adapters.prompts import Example
from serving.attention import StepInput
from serving.runner import StepModel
from training.watch.evaluation import perplexity

_TOKENS_PER_PASS = 256
"""Answer tokens whose probabilities over the whole vocabulary are in memory together."""


@dataclass(frozen=True)
class Loss:
    """Mean negative log-probability of answer tokens, the end-of-text token included."""

    loss: float
    num_rows: int
    num_tokens: int

    @property
    def perplexity(self) -> float:
        """exp(loss), the number of tokens that the model wavers between; infinite if too large."""
        return perplexity(self.loss)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, which knows no infinity: null stands for it."""
        known = self.perplexity if math.isfinite(self.perplexity) else None
        return {**vars(self), "perplexity": known}


def total(losses: Iterable[Loss]) -> Loss:
    """The loss of several sets of rows together, every token counting the same."""
    parts = list(losses)
    num_tokens = sum(part.num_tokens for part in parts)
    whole = sum(part.loss * part.num_tokens for part in parts)
    return Loss(whole / num_tokens, sum(part.num_rows for part in parts), num_tokens)


@torch.inference_mode()
def measure_loss(model: StepModel, examples: Sequence[Example]) -> Loss:
    """The loss of the answers given their prompts; takes memory of its own for the cache."""
    model.allocate_cache(max(len(example.input_ids) for example in examples))
    whole = 0.0
    for example in tqdm(examples, desc="reading known answers", unit="answer", leave=False):
        whole += _negative_log_probability(model, example)
        model.release(0)
    num_tokens = sum(len(e.input_ids) - e.prompt_length for e in examples)
    return Loss(whole / num_tokens, len(examples), num_tokens)


def _negative_log_probability(model: StepModel, example: Example) -> float:
    ids, first = example.input_ids, example.prompt_length - 1
    if first > 0:
        model.forward(_step(model, ids[:first], 0, rows=[first]))
    whole = 0.0
    for start in range(first, len(ids) - 1, _TOKENS_PER_PASS):
        read = ids[start : min(start + _TOKENS_PER_PASS, len(ids) - 1)]
        # A model tells what follows the last token of each row: let every token be a row, and
        # let the rows share one run of the cache, of which each sees what is before it.
        logits = model.forward(_step(model, read, start, rows=[1] * len(read)))
        targets = torch.tensor(ids[start + 1 : start + 1 + len(read)], device=model.device)
        whole += torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum").item()
    return whole


def _step(model: StepModel, ids: Sequence[int], first: int, rows: Sequence[int]) -> StepInput:
    """Tokens from position `first` on of the only run of the cache, as rows of these lengths."""

    def whole_numbers(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=model.device)

    positions = torch.arange(first, first + len(ids), device=model.device)
    ends = [0]
    for length in rows:
        ends.append(ends[-1] + length)
    return StepInput(
        ids=torch.tensor(ids, device=model.device),
        positions=positions,
        slots=positions,
        ends=whole_numbers(ends),
        starts=whole_numbers([0] * (len(rows) + 1)),
        lengths=whole_numbers([first + end for end in ends[1:]]),
        most_tokens=max(rows),
    )
