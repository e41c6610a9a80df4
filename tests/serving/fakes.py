"""Stand-ins that need torch, which the fakes of the web tests must not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import torch
from torch import Tensor

from adapters.prompts import Message, PromptFormat
from serving.answer import Answer
from serving.attention import StepInput
from serving.core import EngineCore
from serving.detokenizer import Detokenizer
from serving.engine import ModelEngine
from serving.errors import ServingError
from serving.handle import RequestHandle
from serving.logprobs import Scoring
from serving.runner import Runner, Tokens
from serving.sampling import SamplingParams
from serving.scheduler import Chunk, Job
from serving.types import Completion, GenerationRequest, Output


class HashModel:
    """A `serving.runner.StepModel` that takes microseconds.

    Its logits are a hash of all ids that a row has in the cache and of their positions: whatever
    reads the place of another row, leaves a token out or counts wrong gets another answer.
    """

    device = torch.device("cpu")
    dtype = torch.float32
    max_length = 4096
    can_be_captured = False
    cache_bytes_per_token = 1000
    vocab_size = 320
    eos_id = 2

    def __init__(self, *, eos_every: int = 0) -> None:
        """The end of the text is the likeliest token once in `eos_every` steps, never for 0."""
        self.hooks: list[Callable[[StepInput], None]] = []
        """Called in every step once the cache was written to, so that a failure leaves traces."""
        self.released: list[int] = []
        self._eos_every = eos_every
        self._salts = torch.arange(self.vocab_size) * 0x2545F4914F6CDD1D
        self._sums = torch.zeros(0, dtype=torch.long)

    def allocate_cache(self, num_tokens: int) -> int:
        self._sums = torch.zeros(num_tokens + 1, dtype=torch.long)
        return num_tokens

    def release(self, start: int) -> None:
        self.released.append(start)

    def forward(self, step: StepInput, scoring: Scoring | None = None) -> Tensor:
        first, counts = step.ends[:-1].long(), step.ends.diff()
        starts, positions = step.starts[:-1].long(), step.positions[first]
        assert step.slots.equal(starts.repeat_interleave(counts) + step.positions)
        assert step.lengths.equal((step.positions[step.last_tokens] + 1).int())
        words = _scatter(step.ids * 1_000_003 + step.positions)
        sums = words.cumsum(0)
        before = self._sums[(starts + positions - 1).clamp_min(0)] * (positions > 0)
        offsets = before - sums[first] + words[first]
        self._sums[step.slots] = sums + offsets.repeat_interleave(counts)
        for hook in self.hooks:
            hook(step)
        if scoring is not None:
            for part in scoring.parts:
                scoring.take(self._logits(self._sums[step.slots[part]]))
        return self._logits(self._sums[step.slots[step.last_tokens]])

    def _logits(self, sums: Tensor) -> Tensor:
        logits = ((_scatter(sums[:, None] ^ self._salts) >> 40) & 0xFFFFFF).float() * 2.0**-20
        logits[:, self.eos_id] = -1000.0
        if self._eos_every:
            logits[sums % self._eos_every == 0, self.eos_id] = 1000.0
        return logits


class ScriptedModel(HashModel):
    """Says what it was told to after each prompt, and then repeats the last token.

    None in a script stands for logits that are no numbers.
    """

    def __init__(self, scripts: Mapping[tuple[int, ...], Sequence[int | None]]) -> None:
        super().__init__()
        self._scripts = scripts
        self._texts: dict[int, list[int]] = {}

    def forward(self, step: StepInput, scoring: Scoring | None = None) -> Tensor:
        logits = torch.zeros_like(super().forward(step, scoring))
        ends, starts = step.ends.tolist(), step.starts.tolist()
        for row in range(len(logits)):
            part = slice(ends[row], ends[row + 1])
            known = self._texts.get(starts[row], [])[: int(step.positions[part][0])]
            self._texts[starts[row]] = text = known + step.ids[part].tolist()
            token = self._next(text)
            logits[row] = float("nan") if token is None else logits[row]
            logits[row, token or 0] += 100.0
        return logits

    def _next(self, text: list[int]) -> int | None:
        for prompt, script in self._scripts.items():
            if tuple(text[: len(prompt)]) == prompt:
                return script[min(len(text) - len(prompt), len(script) - 1)]
        return 0  # in the middle of a prompt


class Gate:
    """Holds a model back until it is opened; a hook of `HashModel`.

    `steps` keeps the number of tokens of every row, for every step that reached the model.
    """

    def __init__(self, *, after: int = 0) -> None:
        """Let so many steps pass."""
        self._after = after
        self.steps: list[list[int]] = []
        self.reached = threading.Event()
        self._opened = threading.Event()
        self.open = self._opened.set

    def __call__(self, step: StepInput) -> None:
        self.steps.append(step.ends.diff().tolist())
        if len(self.steps) > self._after:
            self.reached.set()
            assert self._opened.wait(20), "nobody opened the gate"


class Poison:
    """Makes a model fail on every step that reads that token; a hook of `HashModel`."""

    def __init__(self, token_id: int) -> None:
        self.token_id = token_id

    def __call__(self, step: StepInput) -> None:
        if (step.ids == self.token_id).any():
            raise RuntimeError("poisoned")


class Breakdown:
    """Makes a model fail once in so many steps that generate; a hook of `HashModel`."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.num_steps = 0
        self.num_rows_failed = 0

    def __call__(self, step: StepInput) -> None:
        self.num_steps += step.most_tokens == 1
        if step.most_tokens == 1 and self.num_steps % self.every == 0:
            self.num_rows_failed += len(step.lengths)
            raise RuntimeError("broken down")


class LaggingRunner(Runner):
    """As if the device worked on its own; `events` tells what was launched and looked at."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.overlaps = True
        self.events: list[str] = []

    def read(self, chunks: Sequence[Chunk], first_row: int) -> Tokens:
        return self._note("read", super().read(chunks, first_row))

    def generate(self, num_rows: int, jobs: Sequence[Job] = ()) -> Tokens:
        return self._note("generate", super().generate(num_rows, jobs))

    def describe(self) -> str:
        return "a device of its own"

    def recover(self) -> None:
        pass

    def _note(self, name: str, tokens: Tokens) -> Tokens:
        self.events.append(name)
        wait = tokens.wait

        def look() -> list[int]:
            self.events.append(f"look at {name}")
            return wait()

        tokens.wait = look  # type: ignore[method-assign]
        return tokens


class LostRunner(Runner):
    """A runner whose device does not come back after an error."""

    def recover(self) -> None:
        raise RuntimeError("unspecified launch failure")


class Caller:
    """Whoever asked the core: keeps all that it says about one request."""

    def __init__(
        self,
        prompt: PromptFormat,
        prompt_ids: Sequence[int] = (10, 11, 12),
        *,
        streams: bool = False,
        deadline: float = float("inf"),
        **params: Any,
    ) -> None:
        self.pieces: list[str] = []
        self.ends: list[Output | ServingError] = []
        self.cancelled = False
        self.job = Job(list(prompt_ids), SamplingParams(**params))
        self.answer = Answer(
            self.job,
            Detokenizer(prompt, self.job.params.stop),
            streams=streams,
            deadline=deadline,
            is_cancelled=lambda: self.cancelled,
            on_text=self.pieces.append,
            on_end=self.ends.append,
        )


class Clock:
    """In place of the module `time`: stands still until it is put forward."""

    def __init__(self) -> None:
        self._now = 1000.0

    def monotonic(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


def finish(core: EngineCore, *callers: Caller) -> list[Output | ServingError]:
    """Answer them and whoever is there already; returns how each ended. Nothing may be left."""
    for caller in callers:
        core.add(caller.answer)
    for _ in range(5000):
        if not core.is_idle:
            core.step()
    assert core.is_idle, "it never ends"
    assert not core._pending
    assert_all_free(core)
    assert [len(caller.ends) for caller in callers] == [1] * len(callers)
    return [caller.ends[0] for caller in callers]


def assert_all_free(core: EngineCore) -> None:
    """Nobody holds a row or a place in the cache."""
    assert (core.num_running, core.num_waiting) == (0, 0)
    assert core.kv_cache_tokens_used == 0
    assert not core._runner._rows.active.any()


def ask(text: str = "What is a cache?", **settings: Any) -> GenerationRequest:
    """A request of one turn."""
    return GenerationRequest((Message("user", text),), **settings)


def add_hook(engine: ModelEngine, hook: Any) -> Any:
    """Have the fake model inside call the hook in every step."""
    engine._loaded.model.hooks.append(hook)
    return hook


def in_time(call: Callable[[], Any], timeout_seconds: float = 20) -> Any:
    """What the call returns or raises; if it hangs, a TimeoutError."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future.result(timeout_seconds)


def end_of(handle: RequestHandle) -> Completion | ServingError:
    """How a request ended."""
    try:
        return in_time(handle.result)
    except ServingError as error:
        return error


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 20) -> None:
    """Return as soon as another thread has made the condition true."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        threading.Event().wait(0.001)


def _scatter(x: Tensor) -> Tensor:
    """Numbers that have nothing to do with their neighbours."""
    x = (x ^ (x >> 29)) * 0x3C79AC492BA7B653
    return (x ^ (x >> 32)) * 0x1C69B3F74AC4AE35
