"""Ten thousand requests of all kinds from several threads at once."""

import collections
import contextlib
import dataclasses
import random
import sys
import threading
from dataclasses import dataclass, field

import pytest

from serving.errors import (
    DeadlineExceededError,
    EngineBusyError,
    GenerationError,
    RequestCancelledError,
    ServingError,
)
from serving.handle import RequestHandle
from serving.types import Completion, GenerationRequest
from tests.serving.conftest import LONG, SHORT, SKULL, wait_until
from tests.serving.fakes import (
    Breakdown,
    HashModel,
    Poison,
    add_hook,
    ask,
    assert_all_free,
    in_time,
)

pytestmark = pytest.mark.slow

NUM_REQUESTS, NUM_THREADS = 10_000, 8
MOST_AT_ONCE = 12
"""Requests that a thread waits for; together more than the queue takes."""
NUM_COMPARED = 300
WORDS = ["cache", "queue", "What is", "a", "limit?", "Ünïcödé", "\n", "ß", "1234567890" * 3]
LIMITS = {
    "max_batch_size": 16,
    "queue_size": 64,
    "prompt_tokens_per_step": 96,
    "kv_cache_gb": 1.2e-3,  # 1200 tokens: sometimes they are all taken, sometimes all rows
    "request_timeout_seconds": 600.0,
}


class CountingHandle(RequestHandle):
    """Remembers how often its request was ended, and what came after the end."""

    def __init__(self, *, streams):
        super().__init__(streams=streams)
        self.num_ends = 0

    def put(self, event):
        assert self.num_ends == 0, "nothing may follow the end"
        self.num_ends += not isinstance(event, str)
        super().put(event)


@dataclass
class Asked:
    """A request and what became of it."""

    request: GenerationRequest
    handle: CountingHandle
    cancelled: bool = False
    pieces: list[str] = field(default_factory=list)
    end: Completion | ServingError | None = None

    def cancel(self):
        self.cancelled = True
        self.handle.cancel()


def draw_request(source):
    """Anything that a caller could send."""
    words = source.choices(WORDS, k=source.randint(1, 15))
    if source.random() < 0.03:
        words.insert(source.randrange(len(words) + 1), SKULL)
    settings = {
        "style": source.choice([None, "short", "long"]),
        "temperature": source.choice([None, 0.0, 0.7, 2.0]),
        "top_p": source.choice([None, 0.5, 1.0]),
        "top_k": source.choice([None, 0, 1, 20]),
        "min_new_tokens": source.choice([None, 0, 3, 10]),
        "max_new_tokens": source.choice([None, None, 10, 40]),
        "seed": source.getrandbits(63),
        "stop": tuple(source.sample(["e", " a", "\n", "th", "zzz"], source.choice([0, 0, 1, 3]))),
        "timeout_seconds": source.choice([None] * 20 + [0.0, 0.002, 0.02]),
    }
    return ask(" ".join(words), **settings)


def ask_for_long(engine, number, done):
    """What one thread does; all that it asked is in `done` when it is over."""
    source = random.Random(number)
    to_ask = [draw_request(source) for _ in range(NUM_REQUESTS // NUM_THREADS)]
    under_way = []
    while to_ask or under_way:
        if to_ask and len(under_way) < MOST_AT_ONCE:
            with contextlib.suppress(EngineBusyError):
                handle = engine.submit(to_ask[-1], streams=source.random() < 0.5)
                under_way.append(Asked(to_ask.pop(), handle))
                continue
        if under_way and source.random() < 0.1:
            source.choice(under_way).cancel()  # it may wait, read, generate or be finished
        if under_way:
            asked = under_way.pop(source.randrange(len(under_way)))
            wait_for(asked, source.choice([None] * 19 + [1]))
            done.append(asked)


def wait_for(asked, give_up_at):
    """Read an answer to its end, but want no more of it at some piece."""
    try:
        for number, piece in enumerate(asked.handle):
            if number == give_up_at:
                asked.cancel()
            asked.pieces.append(piece)
        asked.end = asked.handle.result()
    except ServingError as error:
        asked.end = error


def check_end(asked):
    """No request ends in a way that nothing about it explains."""
    request, end = asked.request, asked.end
    if request.timeout_seconds == 0:
        assert isinstance(end, DeadlineExceededError | RequestCancelledError)
    if isinstance(end, RequestCancelledError):
        assert asked.cancelled
    elif isinstance(end, DeadlineExceededError):
        assert request.timeout_seconds is not None
    elif not isinstance(end, GenerationError):
        assert SKULL not in request.messages[0].content
        check_completion(asked, end)


def check_completion(asked, completion):
    style = {"short": SHORT, "long": LONG}[asked.request.style or "short"]
    most = asked.request.max_new_tokens or max(
        style.preset.max_new_tokens, asked.request.min_new_tokens or 0
    )
    assert 1 <= completion.num_tokens <= most
    assert completion.finish_reason == "stop" or completion.num_tokens == most
    assert completion.style == style.name
    assert not any(stop in completion.text for stop in asked.request.stop) or (
        asked.request.min_new_tokens != 0
    )
    if asked.handle.streams:
        assert "".join(asked.pieces) == completion.text
    else:
        assert asked.pieces == []


@pytest.fixture(autouse=True)
def _often_interrupted():
    """Threads take turns far more often, so that they meet in every place they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def engine(start_engine, each_runner, monkeypatch, caplog):
    caplog.set_level("CRITICAL", "serving.core")  # hundreds of failures would be kept
    monkeypatch.setattr("serving.engine.RequestHandle", CountingHandle)
    return start_engine(HashModel(eos_every=20), **LIMITS)


def test_of_ten_thousand_requests_none_is_lost_and_none_is_answered_twice(engine, prompt):
    add_hook(engine, Poison(prompt.encode_words(SKULL)[0]))
    trouble = add_hook(engine, Breakdown(every=500))
    everything = []
    threads = [
        threading.Thread(target=ask_for_long, args=(engine, number, everything), daemon=True)
        for number in range(NUM_THREADS)
    ]

    for thread in threads:
        thread.start()
    wait_until(lambda: not any(thread.is_alive() for thread in threads), 120)

    assert len(everything) == NUM_REQUESTS
    wait_until(lambda: engine._core.is_idle)
    assert_all_free(engine._core)
    assert [asked.handle.num_ends for asked in everything] == [1] * NUM_REQUESTS
    for asked in everything:
        check_end(asked)
    innocent = [asked for asked in everything if SKULL not in asked.request.messages[0].content]
    failures = [asked for asked in innocent if isinstance(asked.end, GenerationError)]
    assert 0 < len(failures) <= trouble.num_rows_failed
    kinds = collections.Counter(type(asked.end) for asked in everything)
    assert len(kinds) == 4
    assert min(kinds.values()) > NUM_REQUESTS / 1000
    engine._loaded.model.hooks.remove(trouble)
    check_answers_alone(engine, [asked for asked in everything if type(asked.end) is Completion])


def check_answers_alone(engine, answered):
    """Neighbours, failures and cancelled requests around it have changed no answer."""
    for asked in random.Random(0).sample(answered, NUM_COMPARED):
        request = dataclasses.replace(asked.request, timeout_seconds=None)
        assert in_time(lambda request=request: engine.generate(request)).text == asked.end.text
