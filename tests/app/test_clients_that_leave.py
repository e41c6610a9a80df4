"""Clients of a real server that go away; see served.py for what its engine does."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes import COMPLETION

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NUM_CLIENTS = 20
PATIENCE_SECONDS = 30
"""After that long something is wrong; nothing here is slow."""


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """Of gunicorn with the settings that matter here and no others."""
    settings = tmp_path_factory.mktemp("gunicorn") / "settings.py"
    settings.write_text(
        f"worker_class = 'gthread'\nthreads = {2 * NUM_CLIENTS}\ncontrol_socket_disable = True\n"
    )
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        command = [sys.executable, "-m", "gunicorn", "-c", str(settings)]
        command += ["-b", f"fd://{listener.fileno()}", "tests.app.served:build()"]
        own = {name: value for name, value in os.environ.items() if not name.startswith("LACONIC_")}
        server = subprocess.Popen(command, cwd=ROOT, env=own, pass_fds=[listener.fileno()])
        try:
            yield listener.getsockname()[1]
        finally:
            server.terminate()
            server.wait(timeout=PATIENCE_SECONDS)


def connect(port, path, body):
    """A connection over which a request was sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return connection


def num_running(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/health")
        return json.loads(connection.getresponse().read())["running"]


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("path", "words"), [("/generate", "prompt"), ("/api/ai-echo/chat", "message")]
)
def test_whoever_leaves_while_waiting_frees_the_place(port, path, words):
    clients = [connect(port, path, {words: "mute"}) for _ in range(NUM_CLIENTS)]
    wait_until(lambda: num_running(port) == NUM_CLIENTS)
    for client in clients:
        client.close()
    wait_until(lambda: num_running(port) == 0)


@pytest.mark.parametrize("question", ["silent", "talks"])
@pytest.mark.parametrize(
    ("path", "body", "words"),
    [("/generate", {"stream": True}, "prompt"), ("/api/ai-echo/stream", {}, "message")],
)
def test_whoever_leaves_a_stream_frees_the_place(port, path, body, words, question):
    clients = [connect(port, path, {**body, words: question}) for _ in range(NUM_CLIENTS)]
    streams = [client.getresponse() for client in clients]
    for stream in streams:
        while not stream.readline().startswith(b"data: "):
            pass
    assert num_running(port) == NUM_CLIENTS
    for client, stream in zip(clients, streams, strict=True):
        stream.close()
        client.close()
    wait_until(lambda: num_running(port) == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_whoever_stays_is_answered_however_long_it_takes(port, stream):
    with contextlib.closing(
        connect(port, "/generate", {"prompt": "a", "stream": stream})
    ) as client:
        text = client.getresponse().read().decode()
    assert json.dumps(COMPLETION.text) in text


def test_the_status_of_a_stream_is_there_before_its_first_word(port):
    body = {"prompt": "mute", "stream": True}
    with contextlib.closing(connect(port, "/generate", body)) as client:
        response = client.getresponse()
        assert response.status == 200
        assert response.readline() == b": ping\n"
        assert num_running(port) == 1
    response.close()
    wait_until(lambda: num_running(port) == 0)
