import itertools
import socket
import struct

import pytest

from app.disconnect import is_gone
from tests.app.events import read_events
from tests.app.problems import read_problem
from tests.fakes import COMPLETION, FakeHandle

LONG_SILENCE = [None] * 100
"""Long enough for every client that leaves to be noticed, and yet it ends."""

ROUTES = {"/generate": {"prompt": "a"}, "/api/ai-echo/chat": {"message": "a"}}
STREAMS = {"/generate": {"prompt": "a", "stream": True}, "/api/ai-echo/stream": {"message": "a"}}


@pytest.fixture
def ends():
    """A connection: the server's end and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with server, client:
        yield server, client


@pytest.fixture
def ask(app, engine, ends):
    """Sends a request over that connection, so to speak; gives the handle and the response."""

    def send(path, body, handle):
        engine.script.append(handle)
        environ = {"gunicorn.socket": ends[0]}
        return app.test_client().post(path, json=body, environ_overrides=environ)

    return send


# Sockets


def test_an_open_connection_is_there(ends):
    server, _ = ends
    assert not is_gone(server)


def test_a_closed_connection_is_gone(ends):
    server, client = ends
    client.close()
    assert is_gone(server)


def test_a_connection_that_was_reset_is_gone(ends):
    server, client = ends
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert is_gone(server)


def test_a_closed_connection_is_gone_even_if_it_left_bytes_behind(ends):
    server, client = ends
    client.sendall(b"GET /health HTTP/1.1\r\n")
    client.close()
    assert is_gone(server)


def test_looking_takes_nothing_from_the_next_request(ends):
    server, client = ends
    client.sendall(b"GET")
    assert not is_gone(server)
    assert server.recv(3) == b"GET"


def test_a_connection_that_this_side_closed_is_gone(ends):
    server, _ = ends
    server.close()
    assert is_gone(server)


def test_looking_at_a_connection_with_a_timeout_does_not_wait_for_it(ends):
    server, client = ends
    server.settimeout(3600)
    assert not is_gone(server)
    client.close()
    assert is_gone(server)


# Answers that are awaited


@pytest.mark.parametrize("path", ROUTES)
def test_an_answer_that_nobody_waits_for_is_given_up(ask, ends, path):
    handle = FakeHandle(COMPLETION, LONG_SILENCE)
    ends[1].close()
    read_problem(ask(path, ROUTES[path], handle), 503)
    assert handle.cancelled


@pytest.mark.parametrize("path", ROUTES)
def test_an_answer_that_somebody_waits_for_is_not_given_up(ask, path):
    handle = FakeHandle(COMPLETION, LONG_SILENCE)
    assert ask(path, ROUTES[path], handle).get_json()["response"] == COMPLETION.text
    assert not handle.cancelled


@pytest.mark.parametrize("path", ROUTES)
def test_waiting_is_interrupted_often_enough_to_notice_a_client_that_leaves(ask, path):
    handle = FakeHandle(COMPLETION, LONG_SILENCE)
    ask(path, ROUTES[path], handle)
    assert len(handle.waits) == len(LONG_SILENCE) + 1
    assert all(wait is not None and wait <= 0.5 for wait in handle.waits)


def test_an_answer_that_is_ready_is_sent_without_asking_who_is_there(ask, ends):
    handle = FakeHandle(COMPLETION)
    ends[1].close()
    assert ask("/generate", {"prompt": "a"}, handle).status_code == 200


def test_a_server_that_shows_no_connection_is_waited_with_to_the_end(client, engine):
    engine.script.append(FakeHandle(COMPLETION, LONG_SILENCE))
    assert client.post("/generate", json={"prompt": "a"}).status_code == 200


# Streams


@pytest.mark.parametrize("path", STREAMS)
def test_a_silent_stream_that_nobody_reads_is_given_up(ask, ends, path):
    handle = FakeHandle(COMPLETION, ["It", *LONG_SILENCE, " caps"])
    ends[1].close()
    read_events(ask(path, STREAMS[path], handle))
    assert handle.cancelled
    assert handle.num_given == 1


@pytest.mark.parametrize("path", STREAMS)
def test_a_silent_stream_that_somebody_reads_goes_on(ask, path):
    handle = FakeHandle(COMPLETION, ["It", *LONG_SILENCE, " caps"])
    read_events(ask(path, STREAMS[path], handle))
    assert handle.num_given == 2


def test_one_client_that_leaves_takes_no_other_with_it(ask, app, engine, ends):
    ends[1].close()
    ask("/generate", {"prompt": "a"}, FakeHandle(COMPLETION, LONG_SILENCE))
    engine.script.append(other := FakeHandle(COMPLETION, itertools.chain(LONG_SILENCE)))
    assert app.test_client().post("/generate", json={"prompt": "a"}).status_code == 200
    assert not other.cancelled
