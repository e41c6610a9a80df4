"""SIGTERM and Ctrl-C ask for an orderly end; asking twice ends at once."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ECHO_SECONDS = 1.0
# torchrun passes on to its processes what the terminal has sent them already.


class StopSignals:
    """While it is entered, the first signal is noted and the second raises KeyboardInterrupt.

    Outside the main thread, where Python hands out no signals, it notes nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is changed before it is entered."""
        self.received: signal.Signals | None = None
        """The first signal."""
        self._clock = clock
        self._received_at = 0.0
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if self._clock() - self._received_at < _ECHO_SECONDS:
                return
            raise KeyboardInterrupt
        self.received, self._received_at = signal.Signals(number), self._clock()
        sys.stderr.write(
            f"\n{self.received.name}: finishing this step and saving; again stops at once\n"
        )
