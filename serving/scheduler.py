"""Decides which requests run next. Knows numbers of tokens only: no model, no device, no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from serving.kv_cache import CacheAllocator, CacheRun
from serving.sampling import SamplingParams


@dataclass(eq=False)
class Job:
    """A request on its way: waiting, then reading its prompt, then one row of the batch."""

    prompt_ids: list[int]
    params: SamplingParams
    run: CacheRun | None = None
    num_read: int = 0
    """Prompt tokens whose keys and values are in the cache."""
    num_started: int = 0
    """Tokens whose generation was started; the device may still be busy with the last one."""
    scored: range = range(0)
    """Prompt tokens whose log-probability is wanted; never the first one, which follows nothing."""

    @property
    def num_tokens_at_most(self) -> int:
        """Cache that the request can come to need."""
        return len(self.prompt_ids) + self.params.max_new_tokens


@dataclass(frozen=True)
class Chunk:
    """Prompt tokens of one job to read in this step."""

    job: Job
    start: int
    length: int

    @property
    def is_last(self) -> bool:
        """Whether the prompt ends here, so that the first token of the answer follows."""
        return self.start + self.length == len(self.job.prompt_ids)


@dataclass(frozen=True)
class Move:
    """The row `source` becomes the row `target`, so that the rows in use stay the first ones."""

    source: int
    target: int


class Scheduler:
    """First in, first out, within rows, cache and a number of prompt tokens a step.

    Between two tokens of the running rows no more than `prompt_tokens_per_step` prompt tokens are
    read: a long prompt slows its neighbours down, but cannot stop them.
    """

    def __init__(
        self, cache: CacheAllocator, *, max_rows: int, prompt_tokens_per_step: int
    ) -> None:
        """Start empty."""
        self._cache = cache
        self._max_rows = max_rows
        self._budget = prompt_tokens_per_step
        self.waiting: deque[Job] = deque()
        self.reading: list[Job] = []
        self.rows: list[Job] = []
        """The jobs that generate; their place is their row."""

    @property
    def num_running(self) -> int:
        """Jobs that hold cache."""
        return len(self.reading) + len(self.rows)

    def plan_prompts(self) -> list[Chunk]:
        """The prompt tokens to read now; admits whoever comes next and fits."""
        chunks: list[Chunk] = []
        budget = self._budget
        for job in self.reading:
            budget -= self._add_chunk(chunks, job, budget)
        while budget > 0 and self.waiting and self.num_running < self._max_rows:
            run = self._cache.allocate(self.waiting[0].num_tokens_at_most)
            if run is None:
                break  # nobody overtakes: the first in line would wait for ever
            job = self.waiting.popleft()
            job.run = run
            self.reading.append(job)
            budget -= self._add_chunk(chunks, job, budget)
        return chunks

    def note_read(self, chunk: Chunk) -> int | None:
        """Record that a chunk was read; returns the job's row if its prompt is complete."""
        job = chunk.job
        job.num_read += chunk.length
        if not chunk.is_last:
            return None
        self.reading.remove(job)
        self.rows.append(job)
        job.num_started = 1
        return len(self.rows) - 1

    def remove(self, job: Job) -> Move | None:
        """Take a job out, wherever it is; returns the row that fills its place, if any."""
        if job in self.waiting:
            self.waiting.remove(job)
            return None
        if job.run is not None:
            self._cache.free(job.run)
            job.run = None
        if job in self.reading:
            self.reading.remove(job)
        if job not in self.rows:
            return None
        target = self.rows.index(job)
        last = self.rows.pop()
        if last is job:
            return None
        self.rows[target] = last
        return Move(len(self.rows), target)

    def _add_chunk(self, chunks: list[Chunk], job: Job, budget: int) -> int:
        length = min(budget, len(job.prompt_ids) - job.num_read)
        if length > 0:
            chunks.append(Chunk(job, job.num_read, length))
        return max(length, 0)
