"""Log-probabilities of tokens, of prompts and of answers, for the requests that ask for them.

They are those of the model itself: log-softmax of its logits in float32, before temperature, top_p,
top_k and the suppression of tokens change what is drawn from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from serving.sampler import download, upload
from serving.scheduler import Chunk, Job

MOST_POSITIONS = 256
"""Prompt tokens whose logits exist at the same time."""


@dataclass(frozen=True)
class Score:
    """A token, and the likeliest ones in its place."""

    ids: list[int]
    """The token itself, then the likeliest ones in the order of their probability."""
    logprobs: list[float]
    """Of each of them."""


class Scores:
    """Scores that the device may still be computing, and whose they are."""

    def __init__(
        self,
        owners: Sequence[tuple[Job, int]],
        ids: Tensor,
        logprobs: Tensor,
        *,
        of_prompt: bool,
    ) -> None:
        """Ask for copies; does not wait.

        Args:
            owners: jobs and how many of the tokens are theirs, one behind the other.
            ids: [tokens, 1 + alternatives], see `Score`.
            logprobs: like `ids`.
            of_prompt: whether the tokens are of prompts, not of answers.
        """
        self._owners = owners
        self._ids, self._logprobs = download(ids), download(logprobs)
        self.of_prompt = of_prompt

    def by_job(self) -> Iterator[tuple[Job, list[Score]]]:
        """Each job with its scores in the order of the tokens; to be called once they are there."""
        ids, logprobs = self._ids.tolist(), self._logprobs.tolist()
        first = 0
        for job, count in self._owners:
            width = 1 + num_alternatives(job)
            yield (
                job,
                [
                    Score(ids[place][:width], logprobs[place][:width])
                    for place in range(first, first + count)
                ],
            )
            first += count


class Scoring:
    """Collects the scores of prompt tokens while a model reads them.

    The model computes the logits of the places `parts` and hands them to `take`, in that order.
    """

    def __init__(self, chunks: Sequence[Chunk], device: torch.device) -> None:
        """Find out what is wanted of chunks that are read in one step, one behind the other."""
        self.parts: list[slice] = []
        """Places in the step, at most `MOST_POSITIONS` each."""
        self._owners: list[tuple[Job, int]] = []
        targets: list[int] = []
        offsets = accumulate((chunk.length for chunk in chunks), initial=0)
        for offset, chunk in zip(offsets, chunks, strict=False):
            wanted = _places(chunk)
            if not wanted:
                continue
            first = offset + wanted.start - chunk.start
            end = first + len(wanted)
            self.parts += [
                slice(place, min(place + MOST_POSITIONS, end))
                for place in range(first, end, MOST_POSITIONS)
            ]
            targets += chunk.job.prompt_ids[wanted.start + 1 : wanted.stop + 1]
            self._owners.append((chunk.job, len(wanted)))
        self._num_top = max((num_alternatives(job) for job, _ in self._owners), default=0)
        self._targets = upload(targets, torch.long, device)
        self._taken: list[tuple[Tensor, Tensor]] = []
        self._num_taken = 0

    def take(self, logits: Tensor) -> None:
        """The logits [places, vocabulary] of the next part."""
        targets = self._targets[self._num_taken : self._num_taken + len(logits)]
        self._taken.append(score(logits, targets, self._num_top))
        self._num_taken += len(logits)

    def scores(self) -> list[Scores]:
        """What was collected; call it when the model has read everything."""
        if not self._taken:
            return []
        assert self._num_taken == len(self._targets)
        ids, logprobs = (torch.cat(parts) for parts in zip(*self._taken, strict=True))
        return [Scores(self._owners, ids, logprobs, of_prompt=True)]


def score_rows(logits: Tensor, chosen: Tensor, asked: Sequence[tuple[int, Job]]) -> list[Scores]:
    """The scores of the chosen ids [rows], given the logits [rows, vocabulary].

    `asked` are the rows that want them, and their jobs.
    """
    if not asked:
        return []
    rows = upload([row for row, _ in asked], torch.long, logits.device)
    num_top = max(num_alternatives(job) for _, job in asked)
    # a row without a valid token fails, whatever its score is
    ids, logprobs = score(logits[rows], chosen[rows].clamp_min(0), num_top)
    return [Scores([(job, 1) for _, job in asked], ids, logprobs, of_prompt=False)]


def score(logits: Tensor, targets: Tensor, num_top: int) -> tuple[Tensor, Tensor]:
    """Ids and log-probabilities [tokens, 1 + num_top] of the targets and the likeliest tokens.

    Args:
        logits: [tokens, vocabulary].
        targets: [tokens] ids.
        num_top: how many of the likeliest tokens to name.
    """
    logprobs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
    top = logprobs.topk(min(num_top, logits.shape[-1]), dim=-1)
    ids = torch.cat([targets[:, None], top.indices], dim=-1)
    return ids, torch.cat([logprobs.gather(1, targets[:, None]), top.values], dim=-1)


def num_alternatives(job: Job) -> int:
    """How many of the likeliest tokens a request wants to know."""
    return 0 if job.params.logprobs is None else job.params.logprobs


def _places(chunk: Chunk) -> range:
    """Places in a prompt whose logits are wanted: each foretells the token behind it."""
    scored = chunk.job.scored
    return range(
        max(chunk.start, scored.start - 1), min(chunk.start + chunk.length, scored.stop - 1)
    )
