"""A real gunicorn whose clients hang up, never finish, or do not read what they asked for."""

import contextlib
import itertools
import socket

import pytest

from tests.app.servers import HealthWatch, Server, wait_for

pytestmark = pytest.mark.slow

# What a client asks for, and whether it wants a stream.
WAITING = ("words 1 seconds 60", False)
SILENT = ("words 1 seconds 60", True)
TALKING = ("words 1000 seconds 0.05", True)
NUM_LEAVING = 100
NUM_SLOW = 60


@pytest.fixture(scope="module")
def server():
    with Server(TEST_PLACES=str(NUM_LEAVING)) as started:
        yield started


@pytest.fixture(autouse=True)
def _idle(request):
    """Nothing is left in the engine after a test."""
    yield
    if "server" in request.fixturenames:
        shared = request.getfixturevalue("server")
        wait_for(lambda: shared.probe()["present"] == 0, 10)


def check_health(watch):
    assert set(watch.statuses) == {200}
    assert max(watch.seconds) < 3


@pytest.mark.parametrize(
    "kinds",
    [[WAITING], [SILENT], [TALKING], [WAITING, SILENT, TALKING]],
    ids=["waiting", "silent streams", "streams", "all"],
)
def test_100_clients_that_hang_up_free_their_places_within_a_second(server, kinds):
    before = server.probe()["cancelled"]
    asked = list(itertools.islice(itertools.cycle(kinds), NUM_LEAVING))
    connections = [server.begin(prompt, stream=stream) for prompt, stream in asked]
    wait_for(lambda: server.probe()["present"] == NUM_LEAVING, 10)
    for connection, (_, stream) in zip(connections, asked, strict=True):
        assert not stream or connection.recv(100)

    for connection in connections:
        connection.close()

    wait_for(lambda: server.probe()["present"] == 0, 1)
    assert server.probe()["cancelled"] == before + NUM_LEAVING


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


def test_clients_that_never_finish_their_chunked_bodies_keep_nobody_waiting(server):
    half = (
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Transfer-Encoding: chunked\r\n\r\n64\r\n{"prompt": "'
    )
    check_slow_clients(server, lambda: server.connect(half))


def test_clients_that_send_their_headers_letter_by_letter_keep_nobody_waiting(server):
    with HealthWatch(server) as watch, contextlib.ExitStack() as stack:
        begun = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
        slow = [stack.enter_context(server.connect(begun)) for _ in range(NUM_SLOW)]
        for num_asked in range(10, 60, 10):
            for connection in slow:
                connection.sendall(b"a")
            assert server.ask("words 1 seconds 0")[0] == 200
            wait_for(lambda least=num_asked: len(watch.seconds) >= least, 10)
    check_health(watch)


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
    connection = server.begin(WAITING[0])
    wait_for(lambda: server.probe()["present"] == 1, 5)
    connection.shutdown(socket.SHUT_WR)
    wait_for(lambda: server.probe()["present"] == 0, 1)
    connection.close()
