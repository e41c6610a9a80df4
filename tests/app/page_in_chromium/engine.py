"""An engine that answers in small pieces with small gaps, and can be held in the middle."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable

from serving.errors import RequestCancelledError
from serving.types import Completion, GenerationRequest
from tests.fakes import FakeEngine, FakeHandle

GAP_SECONDS = 0.005
TERSE = "It caps how many requests a caller may send in a given time."
VERBOSE = (
    "**Rate limiting** caps how many requests a caller may send.\n\n"
    "### How it works\n\n1. Count the calls.\n2. Refuse what is too much.\n\n"
    "```python\ndef allow(calls: int) -> bool:\n    return calls < 100\n```\n"
)
WORDS_BEFORE_HOLD = 3


class GapHandle(FakeHandle):
    """Words with gaps between them; those after the third come when `open` is set."""

    def __init__(
        self, end: Completion | Exception, words: Iterable[str], may_go_on: threading.Event
    ) -> None:
        super().__init__(end, words)
        self.given_up = threading.Event()
        self._may_go_on = may_go_on

    def next_piece(self, timeout_seconds: float | None = None) -> str | None:
        if self.num_given >= WORDS_BEFORE_HOLD and not self._may_go_on.wait(timeout_seconds):
            raise TimeoutError
        if self.given_up.wait(GAP_SECONDS):
            raise RequestCancelledError("nobody wants the answer any more")
        return super().next_piece(timeout_seconds)

    def cancel(self) -> None:
        super().cancel()
        self.given_up.set()


class GapEngine(FakeEngine):
    """Answers each style with a text of its own; a script goes first, as in `FakeEngine`."""

    def __init__(self) -> None:
        super().__init__()
        self.texts = {"terse": TERSE, "verbose": VERBOSE}
        self.open = threading.Event()
        """While it is not set, answers stop after three words."""
        self.open.set()
        self._lock = threading.Lock()

    def submit(self, request: GenerationRequest, *, streams: bool = True) -> FakeHandle:
        with self._lock:  # columns are asked for at the same time
            if self.script:
                return super().submit(request, streams=streams)
            self.requests.append(request)
            text = self.texts[request.style or "terse"]
            handle = self.handle(complete(text, request.style or "terse"), text)
            self.handles.append(handle)
            return handle

    def handle(self, end: Completion | Exception, text: str) -> GapHandle:
        """A handle that gives this text, then its end."""
        return GapHandle(end, re.findall(r"\S+\s*", text), self.open)


def complete(text: str, style: str) -> Completion:
    """The completion of that text; a token is a word."""
    return Completion(
        text=text,
        style=style,
        num_prompt_tokens=17,
        num_tokens=len(text.split()),
        finish_reason="stop",
        seconds=0.5,
        first_token_seconds=0.05,
    )
