import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapters.prompts import Message
from serving.engine import ModelEngine
from serving.errors import (
    DeadlineExceededError,
    EngineBusyError,
    EngineNotReadyError,
    InvalidRequestError,
    RequestCancelledError,
)
from serving.types import GenerationRequest
from tests.serving.conftest import wait_until
from tests.serving.fakes import Gate, HashModel, add_hook, ask, assert_all_free, end_of, in_time


def is_idle(engine):
    status = engine.status()
    return status.num_running == status.num_waiting == 0


# The queue


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(start_engine, hold):
    engine = start_engine(max_batch_size=1, queue_size=2)
    gate, first = hold(engine)
    waiting = [engine.submit(ask()) for _ in range(2)]

    # the gate is closed, so this returns without waiting or never
    with pytest.raises(EngineBusyError, match=r"1 .* being answered and 2 are waiting") as caught:
        in_time(lambda: engine.submit(ask()))

    assert caught.value.retry_after_seconds == 2  # a second each, as long as nothing is known
    gate.open()
    assert [end_of(handle).num_tokens for handle in [first, *waiting]] == [4, 4, 4]


def test_there_is_room_again_when_the_queue_has_moved_on(start_engine, hold):
    engine = start_engine(max_batch_size=1, queue_size=1)
    gate, first = hold(engine)
    waiting = engine.submit(ask())
    with pytest.raises(EngineBusyError):
        engine.submit(ask())

    gate.open()
    end_of(first)
    end_of(waiting)

    assert in_time(lambda: engine.generate(ask())).num_tokens == 4


def test_the_slower_answers_come_the_later_one_should_come_back(start_engine, clock, hold):
    engine = start_engine(max_batch_size=1, queue_size=1)
    add_hook(engine, lambda step: clock.advance(1.75))
    for _ in range(40):
        in_time(lambda: engine.generate(ask(min_new_tokens=4)))  # 7 seconds each
    hold(engine)
    engine.submit(ask())

    with pytest.raises(EngineBusyError) as caught:
        engine.submit(ask())

    assert caught.value.retry_after_seconds == 7


def test_nobody_is_told_to_come_back_later_than_in_a_minute(start_engine, hold):
    engine = start_engine(max_batch_size=1, queue_size=80)
    hold(engine)
    for _ in range(80):
        engine.submit(ask())

    with pytest.raises(EngineBusyError) as caught:
        engine.submit(ask())

    assert caught.value.retry_after_seconds == 60


def test_requests_that_wait_join_together_up_to_the_limit(start_engine, hold):
    engine = start_engine(max_batch_size=3)
    gate, first = hold(engine, max_new_tokens=1)
    waiting = [engine.submit(ask(max_new_tokens=1)) for _ in range(5)]

    gate.open()
    for handle in [first, *waiting]:
        end_of(handle)

    assert [len(counts) for counts in gate.steps] == [1, 3, 2]


def test_a_request_that_can_never_fit_is_refused_with_the_numbers(start_engine):
    engine = start_engine(kv_cache_gb=9.6e-5)  # 96 tokens
    length = engine.generate(ask()).num_prompt_tokens

    with pytest.raises(InvalidRequestError, match=f"{length} prompt .* 200 new .* 96 tokens"):
        engine.submit(ask(max_new_tokens=200))

    assert engine.generate(ask(max_new_tokens=96 - length)).num_tokens == 96 - length


# Deadlines


@pytest.mark.parametrize(("server", "asked"), [(120.0, 10.0), (10.0, None), (10.0, 500.0)], ids=str)
def test_the_shorter_of_two_limits_ends_a_running_request(start_engine, hold, clock, server, asked):
    engine = start_engine(request_timeout_seconds=server)
    gate, handle = hold(engine, min_new_tokens=400, timeout_seconds=asked)

    clock.advance(10.5)
    gate.open()

    assert isinstance(end_of(handle), DeadlineExceededError)
    wait_until(lambda: is_idle(engine))
    assert len(gate.steps) == 2  # what was under way, and nothing more
    assert_all_free(engine._core)
    assert in_time(lambda: engine.generate(ask())).num_tokens == 4


def test_a_request_within_its_limit_is_answered(start_engine, hold, clock):
    engine = start_engine(request_timeout_seconds=10.0)
    gate, handle = hold(engine)

    clock.advance(9.5)
    gate.open()

    assert end_of(handle).num_tokens == 4


def test_a_request_whose_time_is_over_while_it_waits_never_runs(start_engine, hold, clock):
    engine = start_engine(max_batch_size=1)
    gate, first = hold(engine)
    waiting = [engine.submit(ask(timeout_seconds=5)) for _ in range(2)]

    clock.advance(6)
    gate.open()

    assert [type(end_of(handle)) for handle in waiting] == [DeadlineExceededError] * 2
    assert end_of(first).num_tokens == 4
    assert [len(counts) for counts in gate.steps] == [1] * 4


# Cancelling


def test_a_request_cancelled_while_it_waits_never_runs(start_engine, hold):
    engine = start_engine(max_batch_size=1)
    gate, first = hold(engine)
    waiting = engine.submit(ask())

    waiting.cancel()
    gate.open()

    assert isinstance(end_of(waiting), RequestCancelledError)
    assert end_of(first).num_tokens == 4
    assert [len(counts) for counts in gate.steps] == [1] * 4


def test_a_request_cancelled_while_it_runs_frees_its_row_within_one_step(start_engine, hold):
    engine = start_engine(max_batch_size=1)
    gate, running = hold(engine, min_new_tokens=400)
    waiting = engine.submit(ask(max_new_tokens=1))

    running.cancel()
    gate.open()

    assert isinstance(end_of(running), RequestCancelledError)
    assert end_of(waiting).num_tokens == 1
    assert len(gate.steps) == 3  # two in the step under way, then the other prompt


def test_a_stream_that_is_cancelled_raises_when_it_is_read_on(start_engine):
    engine = start_engine()
    gate = add_hook(engine, Gate(after=12))
    streaming, neighbour = (engine.submit(ask(min_new_tokens=30, seed=n)) for n in range(2))
    pieces = iter(streaming)
    in_time(lambda: next(pieces))

    streaming.cancel()
    gate.open()

    with pytest.raises(RequestCancelledError):
        in_time(lambda: list(pieces))
    assert end_of(neighbour).num_tokens == 30


def test_cancelling_what_is_finished_changes_nothing(start_engine):
    engine = start_engine()
    handle = engine.submit(ask())
    completion = end_of(handle)

    handle.cancel()

    assert end_of(handle) == completion
    assert in_time(lambda: engine.generate(ask())).text == completion.text


# The end


def stop_in_background(engine):
    """A thread that stops the engine; it is over when the engine is."""
    thread = threading.Thread(target=engine.stop, daemon=True)
    thread.start()
    wait_until(lambda: engine.status().state == "stopped")
    return thread


def has_ended(thread):
    thread.join(20)
    return not thread.is_alive()


class SlowToRead(list):
    """Messages that are read only after an event, as if the caller's thread had been slow."""

    def __init__(self, messages):
        super().__init__(messages)
        self.reading, self.go_on = threading.Event(), threading.Event()

    def __bool__(self):
        self.reading.set()
        return self.go_on.wait(20)


def test_stopping_finishes_what_runs_and_refuses_what_waits(start_engine, hold):
    engine = start_engine(max_batch_size=2)
    gate, first = hold(engine, min_new_tokens=20)
    second, in_line = [engine.submit(ask(min_new_tokens=20)) for _ in range(2)]
    late_gate = add_hook(engine, Gate(after=8))
    gate.open()
    assert late_gate.reached.wait(20)
    just_come = engine.submit(ask())

    stopping = stop_in_background(engine)
    late_gate.open()

    assert [end_of(handle).num_tokens for handle in (first, second)] == [20, 20]
    for handle in (in_line, just_come):
        with pytest.raises(EngineNotReadyError, match="shutting down"):
            in_time(handle.result)
    assert has_ended(stopping)
    assert_all_free(engine._core)


def test_a_stopped_engine_refuses_and_says_so(start_engine):
    engine = start_engine()

    in_time(engine.stop)
    in_time(engine.stop)

    assert engine.status().state == "stopped"
    with pytest.raises(EngineNotReadyError, match="shutting down"):
        engine.submit(ask())


def test_an_engine_can_be_stopped_while_it_loads(tiny, put_in, monkeypatch):
    loading, go_on = threading.Event(), threading.Event()

    def load(config):
        loading.set()
        assert go_on.wait(20)
        return put_in(HashModel())

    monkeypatch.setattr("serving.engine.load", load)
    engine = ModelEngine(tiny.config())
    engine.start()
    assert loading.wait(20)

    stopping = stop_in_background(engine)
    go_on.set()

    assert has_ended(stopping)
    assert engine.status().state == "stopped"


def test_a_request_that_slips_in_while_the_engine_stops_is_refused_too(start_engine, hold):
    engine = start_engine()
    gate, _ = hold(engine)
    messages = SlowToRead([Message("user", "Am I late?")])

    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(engine.submit, GenerationRequest(messages))
        assert messages.reading.wait(20)
        stopping = stop_in_background(engine)
        messages.go_on.set()

    with pytest.raises(EngineNotReadyError):
        late.result()
    gate.open()
    assert has_ended(stopping)
