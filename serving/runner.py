"""Runs the steps of a batch on the device: reads prompts, generates a token for every row.

On a CUDA device the steps that generate are recorded once as graphs and replayed, and nothing here
waits for the device: results come as `Tokens`, to be looked at while the next step runs.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor

from serving.attention import StepInput
from serving.logprobs import Scores, Scoring, score_rows
from serving.ops import device_ops
from serving.sampler import Rows, download, upload
from serving.scheduler import Chunk, Job, Move


class StepModel(Protocol):
    """What a runner runs: `serving.decoder.Decoder` or `serving.plain.PlainDecoder`."""

    device: torch.device
    dtype: torch.dtype
    max_length: int
    vocab_size: int

    @property
    def can_be_captured(self) -> bool:
        """Whether a pass can be recorded as a CUDA graph."""
        ...

    @property
    def cache_bytes_per_token(self) -> int:
        """Memory that a token takes in the cache."""
        ...

    def allocate_cache(self, num_tokens: int) -> int:
        """Take memory for keys and values; returns a place that belongs to no row."""
        ...

    def release(self, start: int) -> None:
        """The row that began at `start` is over."""
        ...

    def forward(self, step: StepInput, scoring: Scoring | None = None) -> Tensor:
        """Logits [rows, vocabulary] of the token that follows each row.

        Those of the places that `scoring` names go there.
        """
        ...


class Tokens:
    """Ids that the device may still be computing."""

    def __init__(self, ids: Tensor, scores: Sequence[Scores] = ()) -> None:
        """Ask for a copy of the ids [rows]; does not wait.

        `scores` are there as soon as the ids are.
        """
        self.scores = scores
        self._host = download(ids)
        self._event: torch.cuda.Event | None = None
        if ids.device.type == "cuda":
            self._event = torch.cuda.Event()
            self._event.record()

    def wait(self) -> list[int]:
        """The ids, as soon as they are there."""
        if self._event is not None:
            self._event.synchronize()
        ids: list[int] = self._host.tolist()
        return ids


class Runner:
    """Owns the cache and the settings of the rows on the device; used by one thread."""

    def __init__(
        self,
        model: StepModel,
        *,
        max_rows: int,
        cache_tokens: int,
        eos_ids: Sequence[int],
        suppressed_ids: Sequence[int],
    ) -> None:
        """Take the memory for `cache_tokens` tokens and `max_rows` rows."""
        self.model = model
        device = model.device
        self._ops = device_ops(device)
        self.overlaps = device.type == "cuda"
        """Whether a step goes on while the host does something else."""
        self._max_rows = max_rows
        self._rows = Rows(max_rows, model.vocab_size, model.allocate_cache(cache_tokens), device)
        self._eos = torch.tensor(list(eos_ids), dtype=torch.long, device=device)
        self._suppressed = torch.zeros(model.vocab_size, dtype=torch.bool, device=device)
        self._suppressed[list(suppressed_ids)] = True
        self._chosen = torch.zeros(max_rows, dtype=torch.long, device=device)
        self._counting = torch.arange(max_rows + 1, dtype=torch.int32, device=device)
        # Each with the logits that it writes, which are read only for rows that ask for scores.
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.buckets = _buckets(max_rows) if self.overlaps and model.can_be_captured else []
        """Numbers of rows that there is a graph for once `capture` has run."""

    @torch.inference_mode()
    def capture(self, report: Callable[[int], None]) -> None:
        """Record a graph for every bucket, the largest first; they share their memory."""
        pool = None
        for size in reversed(self.buckets):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._generate(size)  # compiles kernels and lets libraries take their workspace
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                logits = self._generate(size)
            pool = graph.pool()
            self._graphs[size] = graph, logits
            report(size)

    @torch.inference_mode()
    def read(self, chunks: Sequence[Chunk], first_row: int) -> Tokens:
        """Read prompt tokens; where a prompt ends, fill a row and choose its first token.

        Rows are filled from `first_row` on, in the order of the chunks that end their prompt.
        """
        logits, scores = self._forward(chunks)
        last = [index for index, chunk in enumerate(chunks) if chunk.is_last]
        columns = []
        for chunk in (chunks[index] for index in last):
            run = chunk.job.run
            assert run is not None
            columns.append((chunk.job.params, run.start, len(chunk.job.prompt_ids)))
        if not columns:
            return Tokens(self._chosen[:0], scores)
        self._rows.fill(first_row, columns, self._suppressed)
        part = slice(first_row, first_row + len(columns))
        if len(last) < len(chunks):
            logits = logits[upload(last, torch.long, logits.device)]
        try:
            self._choose(logits, part)
        except Exception:
            for column in range(part.start, part.stop):
                self._rows.clear(column)  # a step for more rows would go on writing for them
            raise
        chosen = self._chosen[part]
        asked = _that_ask(chunks[index].job for index in last)
        return Tokens(chosen, [*scores, *score_rows(logits, chosen, asked)])

    @torch.inference_mode()
    def generate(self, num_rows: int, jobs: Sequence[Job] = ()) -> Tokens:
        """The next token of each of the first `num_rows` rows, which belong to `jobs`."""
        if self._graphs:
            size = self.buckets[bisect.bisect_left(self.buckets, num_rows)]
            graph, logits = self._graphs[size]
            graph.replay()
        else:
            logits = self._generate(num_rows)
        chosen = self._chosen[:num_rows]
        return Tokens(chosen, score_rows(logits, chosen, _that_ask(jobs)))

    def release(self, start: int) -> None:
        """A request that began at `start` is over before it became a row."""
        self.model.release(start)

    @torch.inference_mode()
    def remove(self, row: int, start: int, move: Move | None) -> None:
        """Take the request that began at `start` out of a row, and let another fill its place."""
        self.model.release(start)
        if move is None:
            self._rows.clear(row)
        else:
            self._rows.move(move.source, move.target)

    def describe(self) -> str:
        """How steps are run and the memory that is used, in a line."""
        if not self.overlaps:
            return f"{self._max_rows} rows, {torch.get_num_threads()} threads"
        graphs = ", ".join(map(str, self._graphs)) or "none"
        free, total = torch.cuda.mem_get_info()
        return (
            f"graphs for {graphs} rows, {(total - free) / 1e9:.1f} GB of the device used, "
            f"{free / 1e9:.1f} GB free"
        )

    def recover(self) -> None:
        """After an error: give unused memory back. Raises if the device itself is lost."""
        if self.overlaps:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def _forward(self, chunks: Sequence[Chunk]) -> tuple[Tensor, list[Scores]]:
        """Logits [chunks, vocabulary] of what follows each, and the scores of what they hold."""
        step = self._prompt_step(chunks)
        if not any(chunk.job.scored for chunk in chunks):
            return self.model.forward(step), []
        scoring = Scoring(chunks, self.model.device)
        logits = self.model.forward(step, scoring)
        return logits, scoring.scores()

    def _generate(self, num_rows: int) -> Tensor:
        """Fill in the next token of the first rows; returns their logits [rows, vocabulary]."""
        rows, part = self._rows, slice(0, num_rows)
        step = StepInput(
            ids=rows.token[part],
            positions=rows.position[part],
            slots=rows.start[part] + rows.position[part],
            ends=self._counting[: num_rows + 1],
            starts=rows.start[: num_rows + 1].int(),
            lengths=(rows.position[part] + 1).int(),
            most_tokens=1,
        )
        logits = self.model.forward(step)
        self._choose(logits, part)
        rows.position[part] += rows.active[part]
        return logits

    def _choose(self, logits: Tensor, part: slice) -> None:
        chosen = self._ops.sample(logits, self._rows.settings(part), self._eos)
        self._chosen[part] = chosen
        # what is no token must not be read as one in a step that is already under way
        self._rows.token[part] = chosen.clamp_min(0)
        self._rows.num_generated[part] += self._rows.active[part]

    def _prompt_step(self, chunks: Sequence[Chunk]) -> StepInput:
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        starts, lengths = [], []
        for chunk in chunks:
            run = chunk.job.run
            assert run is not None
            end = chunk.start + chunk.length
            ids += chunk.job.prompt_ids[chunk.start : end]
            positions += range(chunk.start, end)
            slots += range(run.start + chunk.start, run.start + end)
            starts.append(run.start)
            lengths.append(end)
        device = self.model.device
        tokens = upload([ids, positions, slots], torch.long, device)
        ends = [0, *accumulate(chunk.length for chunk in chunks)]
        rows = upload([ends, [*starts, 0], [*lengths, 0]], torch.int32, device)
        return StepInput(
            ids=tokens[0],
            positions=tokens[1],
            slots=tokens[2],
            ends=rows[0],
            starts=rows[1],
            lengths=rows[2, :-1],
            most_tokens=max(chunk.length for chunk in chunks),
        )


def _that_ask(jobs: Iterable[Job]) -> list[tuple[int, Job]]:
    """The jobs that want to know the scores of their answer, and their places."""
    return [(place, job) for place, job in enumerate(jobs) if job.params.logprobs is not None]


def _buckets(max_rows: int) -> list[int]:
    """1, 2, 4 and so on, the last one being `max_rows`."""
    sizes = [1]
    while sizes[-1] < max_rows:
        sizes.append(min(2 * sizes[-1], max_rows))
    return sizes
