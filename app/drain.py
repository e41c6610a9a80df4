"""Stopping in good order: answer what is there, take nothing new, and leave within a set time.

begin() ──► running answers go on, new ones are refused ──► drain_seconds later: the rest is cut
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator

from serving.errors import EngineNotReadyError
from serving.types import Completion, Engine, EngineStatus, GenerationRequest, Handle

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05


class Drain:
    """Whether the server is about to stop: it answers what it has and wants nothing new.

    Every method is a single assignment or comparison, so a signal handler may call it at any time;
    a lock could be held by the very thread that the signal interrupts.
    """

    def __init__(self, seconds: float) -> None:
        """A server that is not stopping, and that will take `seconds` over it."""
        self._seconds = seconds
        self._begun_at = math.inf

    @property
    def is_draining(self) -> bool:
        """True from the first call of `begin` on."""
        return self._begun_at < math.inf

    @property
    def is_over(self) -> bool:
        """True once the time for running answers is up: what still runs has to be cut."""
        return time.monotonic() - self._begun_at >= self._seconds

    def begin(self) -> None:
        """Say that the server is about to stop; there is no way back."""
        self._begun_at = min(self._begun_at, time.monotonic())

    def end(self) -> None:
        """Say that there is no time left at all."""
        self._begun_at = -math.inf


class DrainingEngine:
    """An engine that takes nothing new while the server stops; see `serving.types.Engine`."""

    def __init__(self, engine: Engine, drain: Drain) -> None:
        """Pass everything on to `engine` as long as `drain` allows."""
        self._engine = engine
        self._drain = drain

    def submit(self, request: GenerationRequest, *, streams: bool = True) -> Handle:
        """Begin to answer."""
        self._refuse_if_draining()
        return _Cuttable(self._engine.submit(request, streams=streams), self._drain)

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request, waiting for it."""
        self._refuse_if_draining()
        return self._engine.generate(request)

    def status(self) -> EngineStatus:
        """A snapshot, without waiting."""
        return self._engine.status()

    def _refuse_if_draining(self) -> None:
        if self._drain.is_draining:
            raise EngineNotReadyError("The server is about to stop; ask again in a moment.")


class _Cuttable:
    """A handle that fails once the time for running answers is up."""

    def __init__(self, handle: Handle, drain: Drain) -> None:
        self._handle = handle
        self._drain = drain

    def __iter__(self) -> Iterator[str]:
        while (piece := self.next_piece()) is not None:
            yield piece

    def next_piece(self, timeout_seconds: float | None = None) -> str | None:
        if self._drain.is_over:
            self._handle.cancel()
            raise EngineNotReadyError("The server stopped before the answer was complete.")
        return self._handle.next_piece(timeout_seconds)

    def result(self) -> Completion:
        return self._handle.result()

    def cancel(self) -> None:
        self._handle.cancel()


def leave_when_done(
    drain: Drain, engine: Engine, leave: Callable[[], None], is_serving: Callable[[], bool]
) -> None:
    """Wait for the drain to begin, then for the last answer or the end of the time; then leave.

    Until then the server goes on to listen, so that whoever comes is told to come back, which is
    kinder than a connection that nobody answers.

    Args:
        drain: begun here as well when `is_serving` becomes false by itself.
        engine: idle when nothing runs or waits.
        leave: makes the server close its door and end.
        is_serving: whether the server still means to take requests.
    """
    while is_serving() and not drain.is_draining:
        time.sleep(POLL_SECONDS)
    drain.begin()
    logger.info("draining: answering what is there, refusing what is new")
    while not drain.is_over and _is_busy(engine):
        time.sleep(POLL_SECONDS)
    leave()


def _is_busy(engine: Engine) -> bool:
    try:
        status = engine.status()
    except Exception:  # a lost device may fail in any way, and must not keep the process
        logger.exception("the engine cannot say whether it is busy")
        return False
    return status.state in {"ready", "stalled"} and status.num_running + status.num_waiting > 0
