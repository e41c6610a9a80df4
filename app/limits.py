"""How often and how much at a time one caller may ask; who asks for more gets 429."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from flask import Flask
from werkzeug.exceptions import TooManyRequests

from app import auth
from app.config import WebConfig
from app.ending import when_over

SECONDS_UNTIL_A_PERMIT = 1
"""A guess: nobody knows when one of the caller's own answers will be over."""
MOST_CALLERS = 10_000
"""Those who have been silent for longest are forgotten: addresses cost an attacker nothing."""


def register(app: Flask, config: WebConfig) -> None:
    """Limit every route that is not public, as far as the settings ask for it."""
    if config.requests_per_minute > 0:
        buckets = Buckets(config.requests_per_minute, time.monotonic)
        app.before_request(lambda: _limit_rate(buckets))
    if config.concurrent_requests > 0:
        permits = Permits(config.concurrent_requests)
        app.before_request(lambda: _limit_concurrency(permits))


class Buckets:
    """A bucket of tokens for each caller: a request takes one, a minute brings all of them back."""

    def __init__(self, per_minute: int, now: Callable[[], float]) -> None:
        """Full buckets of `per_minute` tokens; `now` tells the time in seconds."""
        self._size = per_minute
        self._per_second = per_minute / 60
        self._now = now
        self._lock = threading.Lock()
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take a token; the answer is 0, or the seconds until there is one."""
        with self._lock:
            now = self._now()
            level, then = self._levels.pop(caller, (float(self._size), now))
            level = min(self._size, level + (now - then) * self._per_second)
            is_there = level >= 1
            self._levels[caller] = (level - 1 if is_there else level, now)
            if len(self._levels) > MOST_CALLERS:
                self._levels.popitem(last=False)
        return 0 if is_there else (1 - level) / self._per_second


class Permits:
    """As many permits for each caller as answers may be under way at a time."""

    def __init__(self, each: int) -> None:
        """Give every caller `each` permits."""
        self._each = each
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}

    def acquire(self, caller: str) -> bool:
        """Take a permit if there is one; does not wait."""
        with self._lock:
            held = self._held.get(caller, 0)
            if held < self._each:
                self._held[caller] = held + 1
            return held < self._each

    def release(self, caller: str) -> None:
        """Give a permit back, once for each that was acquired."""
        with self._lock:
            self._held[caller] -= 1
            if self._held[caller] == 0:
                del self._held[caller]


def _limit_rate(buckets: Buckets) -> None:
    if auth.is_public():
        return
    if seconds := buckets.take(auth.caller()):
        raise TooManyRequests(
            "More requests than one caller may send in a minute.", retry_after=math.ceil(seconds)
        )


def _limit_concurrency(permits: Permits) -> None:
    if auth.is_public():
        return
    caller = auth.caller()
    if not permits.acquire(caller):
        raise TooManyRequests(
            "More requests at a time than one caller may have under way.",
            retry_after=SECONDS_UNTIL_A_PERMIT,
        )
    when_over(lambda: permits.release(caller))
