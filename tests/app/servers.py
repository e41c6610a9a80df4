"""Real servers for tests: gunicorn with the settings of the project and a slow fake engine."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
START_SECONDS = 60
"""For a machine that is busy with other tests; a second is the rule."""


class Server:
    """A gunicorn on a free port of this machine; ends with the `with` statement."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.log = Path(tempfile.mkstemp(prefix="server-", suffix=".log")[1])
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LACONIC_")}
        command = [sys.executable, "-m", "gunicorn", "-c", "tests/app/gunicorn_conf.py"]
        bind = [] if "--bind" in arguments else ["--bind", "127.0.0.1:0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *bind, *arguments, "tests.app.gunicorn_app:app"],
                cwd=ROOT,
                env={**kept, "OMP_NUM_THREADS": "1", **environment},
                stderr=log,
            )
        self.port = 0
        self.key: str | None = None
        """Sent with every request where there is one."""

    def __enter__(self) -> Server:
        wait_for(self._find_port, START_SECONDS)
        wait_for(lambda: self.get("/health/live")[0] == 200, START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # at once, without draining
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.unlink()

    def _find_port(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", self.read_log())
        self.port = int(found[1]) if found else 0
        return found is not None

    def read_log(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def ids_in_log(self, event: str) -> set[str]:
        """Ids of the requests of which a log in JSON says this."""
        lines = [json.loads(line) for line in self.read_log().splitlines() if line[:1] == "{"]
        return {line["request_id"] for line in lines if line["event"] == event}

    def get(self, path: str, timeout: float = 30) -> tuple[int, dict[str, str], str]:
        return self._send("GET", path, None, timeout)

    def ask(
        self, prompt: str, timeout: float = 30, **fields: Any
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of an answer to a prompt of `tests.app.gunicorn_app`."""
        return self._send("POST", "/generate", {"prompt": prompt, **fields}, timeout)

    def probe(self) -> dict[str, int]:
        """Facts about the engine."""
        facts: dict[str, int] = json.loads(self.get("/probe")[2])
        return facts

    def begin(self, prompt: str, **fields: Any) -> socket.socket:
        """A connection on which a question was sent and whose answer nobody has read."""
        body = json.dumps({"prompt": prompt, **fields}).encode()
        head = "POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return self.connect(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def connect(self, sent: bytes, receive_buffer: int | None = None) -> socket.socket:
        """A connection on which these bytes were sent."""
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", self.port))
        connection.sendall(sent)
        return connection

    def _send(
        self, method: str, path: str, body: object, timeout: float
    ) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            text = None if body is None else json.dumps(body)
            key = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
            connection.request(method, path, text, {"Content-Type": "application/json", **key})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()


class HealthWatch:
    """Asks again and again whether a server lives; keeps how long each answer took."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seconds: list[float] = []
        self.statuses: Counter[int | str] = Counter()

    def __enter__(self) -> HealthWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.025):
            started = time.monotonic()
            try:
                self.statuses[self._server.get("/health/live", timeout=20)[0]] += 1
            except OSError as error:
                self.statuses[str(error)] += 1
            self.seconds.append(time.monotonic() - started)

    def percentile(self, share: float) -> float:
        """Seconds within which that share of the answers was there."""
        return sorted(self.seconds)[int(share * len(self.seconds))]


def run_to_the_end(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit status and log of a server that is expected to refuse to start."""
    server = Server(*arguments, **environment)
    try:
        return server.process.wait(START_SECONDS), server.read_log()
    finally:
        server.__exit__()


def wait_for(condition: Any, seconds: float) -> None:
    """Ask until something is so; an OSError means not yet."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} seconds")


def at_once(tasks: list[Any]) -> list[Any]:
    """The results of functions that run at the same time; an exception is a result as well."""

    def run(task: Any) -> Any:
        try:
            return task()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))
