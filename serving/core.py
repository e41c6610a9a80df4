"""The steps of the engine: who runs, what came out, who is finished. Used by one thread."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from serving.answer import Answer
from serving.config import EngineConfig
from serving.detokenizer import Detokenizer
from serving.errors import (
    DeadlineExceededError,
    DeviceLostError,
    GenerationError,
    RequestCancelledError,
    ServingError,
)
from serving.kv_cache import CacheAllocator
from serving.loader import LoadedModel
from serving.memory import plan_cache_tokens
from serving.runner import Runner, Tokens
from serving.sampler import NO_TOKEN
from serving.sampling import SamplingParams
from serving.scheduler import Chunk, Job, Scheduler
from serving.types import FinishReason, Output
from serving.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


class EngineCore:
    """Continuous batching: requests join and leave between the steps of those that run.

    Where the device works on its own, the results of a step are looked at while the next one runs.
    A row whose end shows in them has then taken part in one step too many, of which nothing comes.
    """

    def __init__(self, loaded: LoadedModel, config: EngineConfig) -> None:
        """Take the memory for the cache; start without requests."""
        cache = CacheAllocator(plan_cache_tokens(loaded.model, config))
        self._cache = cache
        self._prompt = loaded.prompt
        self._vocabulary = Vocabulary(loaded.prompt)
        self._scheduler = Scheduler(
            cache,
            max_rows=config.max_batch_size,
            prompt_tokens_per_step=_prompt_tokens_per_step(loaded, config),
        )
        self._runner = Runner(
            loaded.model,
            max_rows=config.max_batch_size,
            cache_tokens=cache.num_tokens,
            eos_ids=[loaded.prompt.eos_id],
            suppressed_ids=loaded.suppressed_ids,
        )
        self._answers: dict[Job, Answer] = {}
        self._pending: list[tuple[Tokens, list[Answer]]] = []

    @property
    def kv_cache_tokens(self) -> int:
        """Tokens that fit into the cache."""
        return self._cache.num_tokens

    @property
    def kv_cache_tokens_used(self) -> int:
        """Tokens of the cache that requests hold."""
        return self._cache.num_tokens - self._cache.num_free

    @property
    def num_waiting(self) -> int:
        """Requests that hold no cache yet."""
        return len(self._scheduler.waiting)

    @property
    def num_running(self) -> int:
        """Requests that read their prompt or generate."""
        return self._scheduler.num_running

    @property
    def is_idle(self) -> bool:
        """Whether a step would find nothing to do."""
        return not self._answers and not self._pending

    def warm_up(self, report: Callable[[str], None]) -> None:
        """Record graphs, compile kernels, answer something; `report` gets a line for each part."""
        sizes: list[int] = []
        self._runner.capture(lambda size: sizes.append(size))
        if sizes:
            report(f"recorded graphs for {', '.join(map(str, reversed(sizes)))} rows")
        ids = [self._prompt.eos_id] * 8
        self.run([Job(ids, SamplingParams(min_new_tokens=2, max_new_tokens=2))])
        report("answered a first request")

    def add(self, answer: Answer) -> None:
        """Put a request at the end of the line."""
        self._answers[answer.job] = answer
        self._scheduler.waiting.append(answer.job)

    def step(self) -> None:
        """Read some prompt tokens, generate a token for every row, hand out what came.

        Raises:
            DeviceLostError: nothing can run on the device any more; every request was told.
        """
        self._drop_unwanted()
        launched = [*self._read_prompts(), *self._generate()]
        if self._runner.overlaps:
            launched, self._pending = self._pending, launched
        for tokens, answers in launched:
            self._take(tokens, answers)

    def run(self, jobs: Sequence[Job]) -> list[Output]:
        """Answer all jobs, and whatever else is there; outputs in the same order.

        Raises:
            ServingError: the first failure; the others are answered nevertheless.
        """
        ends: dict[int, Output | ServingError] = {}
        for number, job in enumerate(jobs):
            self.add(
                Answer(
                    job,
                    Detokenizer(self._prompt, job.params.stop),
                    on_end=functools.partial(ends.__setitem__, number),
                )
            )
        while not self.is_idle:
            self.step()
        outputs = []
        for number in range(len(jobs)):
            end = ends[number]
            if isinstance(end, ServingError):
                raise end
            outputs.append(end)
        return outputs

    def fail_waiting(self, error: ServingError) -> None:
        """End every request that holds no cache yet with an error."""
        for job in list(self._scheduler.waiting):
            self._end(self._answers[job], error)

    def fail_all(self, error: ServingError) -> None:
        """End every request with an error, without touching the device."""
        for job, answer in list(self._answers.items()):
            self._scheduler.remove(job)
            answer.ended = True
            answer.on_end(error)
        self._answers.clear()
        self._pending.clear()

    def describe(self) -> str:
        """What was made of the memory, in a line."""
        return f"cache for {self.kv_cache_tokens} tokens, {self._runner.describe()}"

    def _drop_unwanted(self) -> None:
        now = time.monotonic()
        for answer in list(self._answers.values()):
            if answer.is_cancelled():
                self._end(answer, RequestCancelledError("the request was cancelled"))
            elif now > answer.deadline:
                self._end(answer, DeadlineExceededError("not finished in the time allowed"))

    def _read_prompts(self) -> Iterable[tuple[Tokens, list[Answer]]]:
        chunks = self._scheduler.plan_prompts()
        if not chunks:
            return []
        try:
            return [self._read(chunks)]
        except Exception:
            self._recover()
        # one by one, so that only what fails by itself fails
        done = []
        for chunk in chunks:
            try:
                done.append(self._read([chunk]))
            except Exception:
                self._recover()
                logger.exception("a prompt could not be read")
                self._end(
                    self._answers[chunk.job],
                    GenerationError("the model failed on this request; see the server's log"),
                )
        return done

    def _read(self, chunks: Sequence[Chunk]) -> tuple[Tokens, list[Answer]]:
        tokens = self._runner.read(chunks, first_row=len(self._scheduler.rows))
        first = [chunk.job for chunk in chunks if chunk.is_last]
        for chunk in chunks:
            self._scheduler.note_read(chunk)
        answers = [self._answers[job] for job in first]
        self._retire_full(first)
        return tokens, answers

    def _generate(self) -> Iterable[tuple[Tokens, list[Answer]]]:
        rows = list(self._scheduler.rows)
        if not rows:
            return []
        try:
            tokens = self._runner.generate(len(rows), rows)
        except Exception:
            self._recover()
            logger.exception("a step of %d rows failed", len(rows))
            for job in rows:
                self._end(
                    self._answers[job],
                    GenerationError("the model failed while answering; see the server's log"),
                )
            return []
        for job in rows:
            job.num_started += 1
        answers = [self._answers[job] for job in rows]
        self._retire_full(rows)
        return [(tokens, answers)]

    def _retire_full(self, jobs: Sequence[Job]) -> None:
        """Free the rows that no further token may come of, before their last one is known."""
        for job in jobs:
            if job.num_started >= job.params.max_new_tokens:
                self._free(job)

    def _free(self, job: Job) -> None:
        run, rows = job.run, self._scheduler.rows
        row = rows.index(job) if job in rows else None
        move = self._scheduler.remove(job)
        if row is not None and run is not None:
            self._runner.remove(row, run.start, move)
        elif run is not None:
            self._runner.release(run.start)

    def _take(self, tokens: Tokens, answers: Sequence[Answer]) -> None:
        try:
            ids = tokens.wait()
        except Exception:
            self._recover()
            raise
        for scores in tokens.scores:
            for job, found in scores.by_job():
                if job in self._answers:
                    self._answers[job].note(found, of_prompt=scores.of_prompt)
        for token_id, answer in zip(ids, answers, strict=True):
            if not answer.ended:
                self._take_token(token_id, answer)

    def _take_token(self, token_id: int, answer: Answer) -> None:
        params = answer.job.params
        if answer.first_token_at is None:
            answer.first_token_at = time.monotonic()
        if token_id == NO_TOKEN or answer.is_broken:
            self._end(answer, GenerationError("the model computed no valid probabilities"))
            return
        if params.max_new_tokens == 0:  # only the prompt was to be scored
            self._finish(answer, "length")
            return
        if token_id == self._prompt.eos_id:
            self._finish(answer, "stop")
            return
        answer.ids.append(token_id)
        if answer.streams or params.stop:
            may_stop = len(answer.ids) > params.min_new_tokens
            text = answer.detokenizer.add(token_id, may_stop=may_stop)
            if text and answer.streams:
                answer.on_text(text)
        if answer.detokenizer.stopped:
            self._finish(answer, "stop")
        elif len(answer.ids) == params.max_new_tokens:
            self._finish(answer, "length")

    def _finish(self, answer: Answer, reason: FinishReason) -> None:
        self._end(answer, answer.finish(reason, self._vocabulary))

    def _end(self, answer: Answer, end: Output | ServingError) -> None:
        answer.ended = True
        del self._answers[answer.job]
        self._free(answer.job)
        answer.on_end(end)

    def _recover(self) -> None:
        """Go on if the device can; else tell everybody and give up."""
        try:
            self._runner.recover()
        except Exception as lost:
            gone = DeviceLostError("the device failed; the server restarts")
            self.fail_all(gone)
            raise gone from lost


def _prompt_tokens_per_step(loaded: LoadedModel, config: EngineConfig) -> int:
    if config.prompt_tokens_per_step is not None:
        return config.prompt_tokens_per_step
    return 2048 if loaded.model.device.type == "cuda" else 256
