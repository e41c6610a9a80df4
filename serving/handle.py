"""What a caller holds of a request that is being answered."""

from __future__ import annotations

import queue
from collections.abc import Iterator

from serving.types import Completion


class RequestHandle:
    """Text as it comes, and the completion at the end; may be used by one thread at a time."""

    def __init__(self, *, streams: bool) -> None:
        """A handle whose engine hands over text at every step, or only the completion."""
        self.streams = streams
        self.cancelled = False
        self._events: queue.SimpleQueue[str | Completion | Exception] = queue.SimpleQueue()
        self._end: Completion | Exception | None = None

    def __iter__(self) -> Iterator[str]:
        """Pieces of text whose concatenation is the completion's text.

        Raises:
            ServingError: the request failed; pieces may have come before.
        """
        while (piece := self.next_piece()) is not None:
            yield piece

    def next_piece(self, timeout_seconds: float | None = None) -> str | None:
        """The next piece of text, or None once the answer is complete.

        Args:
            timeout_seconds: how long to wait at most; None for as long as it takes.

        Raises:
            TimeoutError: nothing came in that time, which is no reason not to ask again.
            ServingError: the request failed.
        """
        if self._end is None:
            try:
                event = self._events.get(timeout=timeout_seconds)
            except queue.Empty:
                raise TimeoutError from None
            if isinstance(event, str):
                return event
            self._end = event
        if isinstance(self._end, Exception):
            raise self._end
        return None

    def result(self) -> Completion:
        """Wait for the end; raises ServingError if the request failed."""
        for _ in self:
            pass
        assert isinstance(self._end, Completion)
        return self._end

    def cancel(self) -> None:
        """Nobody wants the answer any more: the engine drops it at its next step."""
        self.cancelled = True

    def put(self, event: str | Completion | Exception) -> None:
        """For the engine: text, or the end; nothing may follow the end."""
        self._events.put(event)
