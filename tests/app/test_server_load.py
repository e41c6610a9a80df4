"""A real gunicorn under more clients than it can serve, and under clients that misbehave."""

import socket
import threading
import time
from collections import Counter

import pytest

from tests.app.servers import Server, at_once, wait_for

pytestmark = pytest.mark.slow

LONG = "words 1000 seconds 0.05"
SILENT = "words 1 seconds 60"
NUM_SLOW = 60


@pytest.fixture(scope="module")
def server():
    with Server() as started:
        yield started


@pytest.fixture(autouse=True)
def _idle(request):
    """Nothing is left in the engine after a test."""
    yield
    if "server" in request.fixturenames:
        shared = request.getfixturevalue("server")
        wait_for(lambda: shared.probe()["present"] == 0, 10)


class HealthWatch:
    """Asks again and again whether the server lives; keeps the longest time of an answer."""

    def __init__(self, server):
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seconds = []
        self.statuses = Counter()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _watch(self):
        while not self._done.wait(0.05):
            started = time.monotonic()
            try:
                self.statuses[self._server.get("/health/live", timeout=20)[0]] += 1
            except OSError as error:
                self.statuses[str(error)] += 1
            self.seconds.append(time.monotonic() - started)


def check_health(watch):
    assert set(watch.statuses) == {200}
    assert max(watch.seconds) < 3


def test_each_of_200_clients_at_once_gets_an_answer_or_is_told_to_come_back(server):
    with HealthWatch(server) as watch:
        answers = at_once([lambda: server.ask("words 2 seconds 0.3")] * 200)
    check_health(watch)
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    statuses = Counter(status for status, _, _ in answers)
    assert set(statuses) == {200, 503}
    assert statuses[200] >= 32
    refused = [headers for status, headers, _ in answers if status == 503]
    assert all(int(headers["Retry-After"]) > 0 for headers in refused)


def test_what_clients_wait_for_is_cancelled_within_a_second_when_they_hang_up(server):
    check_hanging_up(server, SILENT, stream=False)


def test_streams_are_cancelled_within_a_second_when_their_clients_hang_up(server):
    check_hanging_up(server, LONG, stream=True)


def test_silent_streams_are_cancelled_within_a_second_when_their_clients_hang_up(server):
    check_hanging_up(server, SILENT, stream=True)


def check_hanging_up(server, prompt, *, stream):
    before = server.probe()["cancelled"]
    connections = [server.begin(prompt, stream=stream) for _ in range(20)]
    wait_for(lambda: server.probe()["present"] == 20, 10)
    if stream:
        assert all(connection.recv(100) for connection in connections)
    for connection in connections:
        connection.close()
    wait_for(lambda: server.probe()["present"] == 0, 1)
    assert server.probe()["cancelled"] == before + 20


def test_clients_that_never_finish_their_headers_keep_nobody_waiting(server):
    half = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
    check_slow_clients(server, lambda: server.connect(half))


def test_clients_that_connect_and_say_nothing_keep_nobody_waiting(server):
    check_slow_clients(server, lambda: server.connect(b""))


def test_clients_that_never_finish_their_bodies_keep_nobody_waiting(server):
    half = (
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 1000\r\n\r\n{"prompt": "'
    )
    check_slow_clients(server, lambda: server.connect(half))


def check_slow_clients(server, connect):
    """The server answers others, and drops the slow clients in the end."""
    with HealthWatch(server) as watch:
        slow = [connect() for _ in range(NUM_SLOW)]
        assert server.ask("words 1 seconds 0")[0] == 200
        wait_for(lambda: len(watch.seconds) >= 10, 30)
        for connection in slow:
            with connection:
                while connection.recv(4096):
                    pass
    check_health(watch)


def test_clients_that_do_not_read_their_streams_keep_nobody_waiting_and_are_dropped():
    body = b'{"prompt": "words 100000 seconds 0", "stream": true}'
    question = (
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    with Server(TEST_LETTERS="20000") as server, HealthWatch(server) as watch:
        # few and short, as nothing but full buffers makes a server notice
        slow = [server.connect(question, receive_buffer=4096) for _ in range(8)]
        wait_for(lambda: server.probe()["present"] == 8, 10)
        assert server.ask("words 1 seconds 0")[0] == 200
        wait_for(lambda: server.probe()["present"] == 0, 30)
        assert server.probe()["cancelled"] == 8
        for connection in slow:
            connection.close()
    check_health(watch)


def test_clients_that_do_not_hang_up_after_their_answer_keep_nobody_waiting(server):
    question = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    check_slow_clients(server, lambda: server.connect(question))


def test_headers_that_are_too_large_are_refused(server):
    for head in (
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n",
    ):
        connection = server.connect(head)
        try:
            status = connection.recv(100).split()[1]
        except ConnectionResetError:
            status = b"400"
        assert status in {b"400", b"414", b"431"}
        connection.close()


def test_a_client_that_shuts_its_sending_side_is_taken_for_gone(server):
    connection = server.begin(SILENT)
    wait_for(lambda: server.probe()["present"] == 1, 5)
    connection.shutdown(socket.SHUT_WR)
    wait_for(lambda: server.probe()["present"] == 0, 1)
    connection.close()
