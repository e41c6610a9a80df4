"""Hand-written stand-ins that keep the promises of what they replace."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

from adapters.styles import STYLES, TERSE
from serving.errors import InvalidRequestError
from serving.types import Completion, EngineStatus, GenerationRequest

COMPLETION = Completion(
    text="It caps how many requests a caller may send in a given time.",
    style="terse",
    num_prompt_tokens=17,
    num_tokens=13,
    finish_reason="stop",
    seconds=0.25,
    first_token_seconds=0.05,
)

READY = EngineStatus(
    state="ready",
    detail="",
    model="pocket",
    adapter="pocket-verbosity",
    adapter_version="1",
    quantization="nf4",
    device="cuda:0",
    gpu_memory_gb=4.5,
    seconds_since_step=0.01,
    kv_cache_tokens=98304,
    kv_cache_tokens_used=4096,
    num_running=2,
    num_waiting=3,
    queue_size=32,
    default_style=TERSE.name,
    styles=STYLES,
)


Entry = TypeVar("Entry")


class FakeHandle:
    """A `serving.types.Handle` whose text comes word by word, then the end.

    None among the words is a silence: whoever waits with a timeout sees it expire, and at once.
    `waits` are the timeouts that were asked for.
    """

    def __init__(self, end: Completion | Exception, words: Iterable[str | None] = ()) -> None:
        self._end = end
        self._words = iter(words)
        self.cancelled = False
        self.num_given = 0
        self.waits: list[float | None] = []

    def __iter__(self) -> Iterator[str]:
        while (word := self.next_piece()) is not None:
            yield word

    def next_piece(self, timeout_seconds: float | None = None) -> str | None:
        self.waits.append(timeout_seconds)
        for word in self._words:
            if word is not None:
                self.num_given += 1
                return word
            if timeout_seconds is not None:
                raise TimeoutError
        _return_or_raise(self._end)
        return None

    def result(self) -> Completion:
        return _return_or_raise(self._end)

    def cancel(self) -> None:
        self.cancelled = True


class FakeEngine:
    """A `serving.types.Engine` without a model: records requests, answers from a script.

    Each request takes the next entry of `script`: a completion is returned, an error is raised.
    After the last entry every request gets `COMPLETION` in the style that it named. `handles` are
    those that `submit` gave out; a stream that fails on its way is a `FakeHandle` in the script.
    """

    def __init__(self, *script: Completion | Exception | FakeHandle) -> None:
        self.script = list(script)
        self.requests: list[GenerationRequest] = []
        self.handles: list[FakeHandle] = []
        self.snapshot: EngineStatus | Exception = READY

    def submit(self, request: GenerationRequest, *, streams: bool = True) -> FakeHandle:
        """A handle that gives the words of the next entry; an error is raised at once."""
        if self.script and isinstance(self.script[0], FakeHandle):
            self.requests.append(request)
            handle = self.script.pop(0)
        else:
            completion = self.generate(request)
            words = re.findall(r"\S+\s*", completion.text) if streams else []
            handle = FakeHandle(completion, words)
        self.handles.append(handle)
        return handle

    def generate(self, request: GenerationRequest) -> Completion:
        """The next entry of the script; styles are looked up as a real engine does."""
        self.requests.append(request)
        if self.script:
            return _return_or_raise(self.script.pop(0))
        return dataclasses.replace(COMPLETION, style=find_style(request))

    def status(self) -> EngineStatus:
        """Whatever a test put into `snapshot`."""
        return _return_or_raise(self.snapshot)


def find_style(request: GenerationRequest) -> str:
    """The name of the style to answer in; raises what a real engine raises for an unknown one."""
    known = [style.name for style in STYLES]
    style = TERSE.name if request.style is None else request.style
    if style not in known:
        raise InvalidRequestError(
            "style", f"Unknown style {style!r}. Choose one of: {', '.join(known)}."
        )
    return style


def _return_or_raise(entry: Entry | Exception) -> Entry:
    if isinstance(entry, Exception):
        raise entry
    return entry
