import dataclasses
import threading

import pytest

from adapters.prompts import Message
from app import create_app
from app.config import WebConfig
from app.drain import Drain, DrainingEngine, leave_when_done
from serving.errors import EngineNotReadyError
from serving.types import GenerationRequest
from tests.app.problems import read_problem
from tests.fakes import COMPLETION, READY, FakeEngine, FakeHandle

IDLE = dataclasses.replace(READY, num_running=0, num_waiting=0)
REQUEST = GenerationRequest((Message("user", "What is DNS?"),))
LONG_SECONDS = 3600


def app_and_drain(engine, seconds=LONG_SECONDS):
    app = create_app(engine, WebConfig(drain_seconds=seconds))
    return app, app.extensions["drain"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"prompt": "a"}),
        ("/generate", {"prompt": "a", "stream": True}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
        ("/v1/completions", {"prompt": "a"}),
        ("/api/ai-echo/chat", {"message": "a"}),
        ("/api/ai-echo/stream", {"message": "a"}),
    ],
)
def test_a_draining_server_refuses_new_requests_and_says_when_to_come_back(engine, path, body):
    app, drain = app_and_drain(engine)
    drain.begin()
    answer = app.test_client().post(path, json=body)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert engine.requests == []


def test_a_draining_server_still_says_that_it_lives_but_is_not_ready(engine):
    engine.snapshot = IDLE
    app, drain = app_and_drain(engine)
    assert app.test_client().get("/health/ready").status_code == 200
    drain.begin()
    assert app.test_client().get("/health/live").status_code == 200
    assert app.test_client().get("/health/ready").status_code == 503


def test_an_answer_under_way_goes_on_while_the_server_drains(engine):
    drain = Drain(LONG_SECONDS)
    handle = DrainingEngine(engine, drain).submit(REQUEST)
    first = handle.next_piece()
    drain.begin()
    assert first + "".join(handle) == COMPLETION.text
    assert handle.result() == COMPLETION
    assert not engine.handles[0].cancelled


def test_an_answer_is_cut_when_the_time_is_up(engine):
    drain = Drain(0)
    handle = DrainingEngine(engine, drain).submit(REQUEST)
    handle.next_piece()
    drain.begin()
    with pytest.raises(EngineNotReadyError, match="before the answer was complete"):
        handle.next_piece()
    assert engine.handles[0].cancelled


def test_a_stream_that_is_cut_ends_with_an_error_event():
    def words():
        yield "A "
        drain.begin()
        yield "B "
        yield "C "

    app, drain = app_and_drain(FakeEngine(FakeHandle(COMPLETION, words())), seconds=0)
    answer = app.test_client().post("/generate", json={"prompt": "a", "stream": True})
    events = answer.text.strip().split("\n\n")
    assert '"A "' in events[-3]
    assert events[-1].startswith("event: error\n")
    assert "before the answer was complete" in events[-1]


def test_a_caller_who_waits_for_a_whole_answer_that_is_cut_is_told():
    def silence():
        yield None
        drain.begin()
        yield None
        yield None

    handle = FakeHandle(COMPLETION, silence())
    app, drain = app_and_drain(FakeEngine(handle), seconds=0)
    answer = app.test_client().post("/generate", json={"prompt": "a"})
    assert "before the answer" in read_problem(answer, 503)["detail"]
    assert handle.cancelled


def test_a_drain_is_over_when_its_time_is_up_or_when_it_is_ended():
    drain = Drain(LONG_SECONDS)
    assert not drain.is_draining
    assert not drain.is_over
    drain.begin()
    assert drain.is_draining
    assert not drain.is_over
    drain.end()
    drain.begin()
    assert drain.is_over


def test_beginning_again_gives_no_more_time():
    drain = Drain(LONG_SECONDS)
    drain.begin()
    begun = vars(drain).copy()
    drain.begin()
    assert vars(drain) == begun


class Busy(FakeEngine):
    """An engine that has something to do for a few looks at it."""

    def __init__(self, *snapshots):
        super().__init__()
        self.snapshots = list(snapshots)

    def status(self):
        self.snapshot = self.snapshots.pop(0)
        return super().status()


def leave(engine, drain, is_serving=lambda: True):
    """Whether the drain had begun at the time of leaving, for each time of leaving."""
    left = []
    leave_when_done(drain, engine, lambda: left.append(drain.is_draining), is_serving)
    return left


def test_a_server_leaves_once_nothing_runs_and_nothing_waits():
    engine = Busy(READY, dataclasses.replace(IDLE, num_waiting=1), IDLE)
    drain = Drain(LONG_SECONDS)
    drain.begin()
    assert leave(engine, drain) == [True]
    assert engine.snapshots == []


def test_a_server_stays_until_it_is_told_to_stop():
    drain, left = Drain(LONG_SECONDS), threading.Event()
    asked = threading.Semaphore(0)

    def is_serving():
        asked.release()
        return True

    arguments = (drain, Busy(IDLE), left.set, is_serving)
    thread = threading.Thread(target=leave_when_done, args=arguments)
    thread.start()
    assert asked.acquire(timeout=5)
    assert asked.acquire(timeout=5)
    assert not left.is_set()
    drain.begin()
    thread.join(5)
    assert left.is_set()


def test_a_server_that_ends_by_itself_drains_as_well():
    assert leave(Busy(IDLE), Drain(LONG_SECONDS), is_serving=lambda: False) == [True]


@pytest.mark.parametrize("state", ["loading", "failed", "dead", "stopped"])
def test_a_server_does_not_wait_for_an_engine_that_answers_nothing(state):
    drain = Drain(LONG_SECONDS)
    drain.begin()
    assert leave(Busy(dataclasses.replace(READY, state=state)), drain) == [True]


def test_a_server_does_not_wait_for_an_engine_that_cannot_say_what_it_does():
    drain = Drain(LONG_SECONDS)
    drain.begin()
    assert leave(Busy(RuntimeError("lost")), drain) == [True]


def test_a_server_leaves_when_the_time_is_up_whatever_runs():
    drain = Drain(0)
    drain.begin()
    assert leave(Busy(READY), drain) == [True]
