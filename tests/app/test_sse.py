import dataclasses
import itertools
import json
import logging

import pytest

from app import create_app, sse
from app.config import WebConfig
from serving.errors import (
    DeadlineExceededError,
    DeviceLostError,
    EngineBusyError,
    EngineNotReadyError,
    GenerationError,
    InvalidRequestError,
)
from tests.app.events import Event, read_blocks, read_events
from tests.app.problems import read_problem
from tests.fakes import COMPLETION, FakeEngine, FakeHandle

ASK = {"prompt": "What is DNS?", "stream": True}
SILENCE = None


def text_of(events):
    return "".join(event.data["delta"] for event in events if event.name == "message")


# What a stream consists of


def test_a_stream_is_pieces_of_text_and_then_the_whole_answer(engine, post):
    engine.script.append(FakeHandle(COMPLETION, ["It caps", " how many"]))
    *pieces, end = read_events(post(ASK))
    assert pieces == [
        Event("message", {"delta": "It caps"}),
        Event("message", {"delta": " how many"}),
    ]
    assert end.name == "done"


def test_the_last_event_is_the_answer_that_a_request_without_stream_gets(post):
    plain = post({**ASK, "stream": False}).get_json()
    *_, end = read_events(post(ASK))
    assert end.data == plain
    assert list(end.data) == list(plain)


def test_all_pieces_together_are_the_text_of_the_answer(post):
    *pieces, end = read_events(post(ASK))
    assert text_of(pieces) == end.data["response"]
    assert len(pieces) > 1


def test_text_is_asked_of_the_engine_only_where_it_is_sent(engine, post):
    read_events(post(ASK))
    post({**ASK, "stream": False})
    streamed, whole = engine.handles
    assert streamed.num_given > 1
    assert whole.num_given == 0


@pytest.mark.parametrize("value", [False, None])
def test_without_stream_the_answer_is_plain_json(post, value):
    assert post({**ASK, "stream": value}).mimetype == "application/json"


def test_no_proxy_keeps_or_collects_the_events(post):
    headers = post(ASK).headers
    assert headers["Cache-Control"] == "no-cache, no-transform"
    assert headers["X-Accel-Buffering"] == "no"


@pytest.mark.parametrize(
    "text",
    [
        "\n\ndata: forged\n\n",
        "\r\nevent: done\r\n",
        '"quoted" \\ {0} {x!r} %s',
        "\u2028\u2029\x85\x0b\x0c\x00",
        "naïve 日本語 😀",
        "half of a pair: \ud83d",
        " ",
    ],
)
def test_no_text_can_end_an_event_or_change_on_its_way(engine, post, text):
    completion = dataclasses.replace(COMPLETION, text=text)
    engine.script.append(FakeHandle(completion, [text, text]))
    *pieces, end = read_events(post(ASK))
    assert [piece.data for piece in pieces] == [{"delta": text}] * 2
    assert end.data["response"] == text


def test_the_status_is_sent_before_the_first_word_is_there(app, engine):
    handle = FakeHandle(COMPLETION, ["It caps"])
    engine.script.append(handle)
    response = app.test_client().post("/generate", json=ASK, buffered=False)
    assert next(response.response) == sse.PING.encode()
    assert handle.num_given == 0
    response.close()


# Silence


def test_a_silent_stream_is_kept_alive_by_comments(engine):
    engine.script.append(FakeHandle(COMPLETION, ["It", SILENCE, SILENCE, " caps", SILENCE]))
    client = create_app(engine, WebConfig(sse_ping_seconds=1e-12)).test_client()
    opening, *blocks = read_blocks(client.post("/generate", json=ASK))
    assert opening == ": ping"
    kinds = ["ping" if block == ": ping" else "event" for block in blocks]
    assert kinds == ["event", "ping", "ping", "event", "ping", "event"]


def test_comments_are_only_sent_once_the_silence_is_long(engine):
    engine.script.append(FakeHandle(COMPLETION, [SILENCE] * 50))
    client = create_app(engine, WebConfig(sse_ping_seconds=3600)).test_client()
    blocks = read_blocks(client.post("/generate", json=ASK))
    assert blocks.count(": ping") == 1  # the one that opens the stream


# Refusals and failures


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequestError("seed", "Choose another."), 422),
        (EngineBusyError("full", retry_after_seconds=7), 503),
        (EngineNotReadyError("the model is being loaded"), 503),
    ],
)
def test_a_refusal_is_no_stream(engine, post, error, status):
    engine.script.append(error)
    read_problem(post(ASK), status)


def test_a_stream_that_is_refused_says_when_to_come_back(engine, post):
    engine.script.append(EngineBusyError("full", retry_after_seconds=7))
    assert post(ASK).headers["Retry-After"] == "7"


def test_a_malformed_request_for_a_stream_is_no_stream(post):
    read_problem(post({**ASK, "temperature": 3}), 422)


FAILURES = [
    GenerationError('it "failed"\n\nbadly {0} %s'),
    DeadlineExceededError("not finished within 120 seconds"),
    DeviceLostError("the device failed"),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_failure_on_the_way_is_told_by_the_last_event(engine, post, error):
    engine.script.append(FakeHandle(error, ["It caps"]))
    piece, last = read_events(post(ASK))
    assert piece.data == {"delta": "It caps"}
    assert last.name == "error"


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_failure_on_the_way_is_the_problem_document_of_a_plain_request(engine, post, error):
    engine.script += [FakeHandle(error, ["It caps"]), FakeHandle(error)]
    *_, last = read_events(post(ASK))
    response = post({**ASK, "stream": False})
    assert last.data == read_problem(response, response.status_code)


def test_a_failure_before_the_first_word_is_told_as_well(engine, post):
    engine.script.append(FakeHandle(GenerationError("failed")))
    (last,) = read_events(post(ASK))
    assert (last.name, last.data["status"]) == ("error", 500)


def test_an_unexpected_failure_is_logged_and_shows_nothing_of_the_inside(engine, post, caplog):
    engine.script.append(FakeHandle(RuntimeError("/root/secret.py"), ["It caps"]))
    *_, last = read_events(post(ASK))
    assert last.name == "error"
    assert "secret" not in json.dumps(last.data)
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError]
    assert caplog.records[0].levelno == logging.ERROR


def test_a_failed_stream_gives_its_place_back(engine, post):
    handle = FakeHandle(RuntimeError("unexpected"), ["It caps"])
    engine.script.append(handle)
    response = post(ASK)
    read_events(response)
    response.close()  # as a server does after the last event
    assert handle.cancelled


def test_the_request_after_a_failed_stream_is_answered(engine, post):
    engine.script.append(FakeHandle(GenerationError("failed"), ["It caps"]))
    read_events(post(ASK))
    assert read_events(post(ASK))[-1].name == "done"


# Clients that leave


def test_a_client_that_stops_reading_stops_the_answer(app, engine):
    handle = FakeHandle(COMPLETION, itertools.repeat("word "))
    engine.script.append(handle)
    response = app.test_client().post("/generate", json=ASK, buffered=False)
    opening, first = next(response.response), next(response.response)
    response.close()
    assert (opening, first) == (sse.PING.encode(), b'data: {"delta": "word "}\n\n')
    assert handle.cancelled
    assert handle.num_given == 1


def test_a_stream_that_nobody_ever_reads_is_cancelled(app):
    handle = FakeHandle(COMPLETION, ["It caps"])
    with app.test_request_context():
        sse.respond(handle, Words()).close()
    assert handle.cancelled
    assert handle.num_given == 0


# Other formats


class Words:
    """The simplest `StreamFormat`."""

    def piece(self, text):
        return sse.event(text)

    def end(self, completion):
        return ""

    def failure(self, error):
        return sse.event(None, "lost")


def test_an_api_may_open_its_streams_in_its_own_way():
    app = create_app(FakeEngine())
    with app.test_request_context():
        response = sse.respond(FakeHandle(COMPLETION, ["a"]), Words(), opening=sse.event(0, "on"))
        assert response.get_data(as_text=True) == 'event: on\ndata: 0\n\ndata: "a"\n\n'


def test_a_number_that_is_no_json_is_never_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        sse.event({"loss": float("nan")})
