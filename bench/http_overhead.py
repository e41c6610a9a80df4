"""What HTTP, Flask and validation cost: requests to an engine that answers at once.

A real gunicorn with the settings of gunicorn.conf.py serves the real application around that
engine; clients on the same machine send what people send. The time of the engine alone is taken
off. The client's own time is not, so the true cost is a little lower.

    python -m bench.http_overhead
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from adapters.prompts import Message
from adapters.styles import STYLES, TERSE
from app import create_app, logs
from app.config import WebConfig
from serving.handle import RequestHandle
from serving.types import Completion, EngineStatus, GenerationRequest

ROOT = Path(__file__).parent.parent
GOAL_MS = 3.0
"""Of the median with one client, on 2 cores."""

_WORDS = ("Rate limiting ", "restricts how often ", "a client may call ", "a service.")
_BODY = {
    "prompt": "What is rate limiting?",
    "style": "terse",
    "temperature": 0.7,
    "max_new_tokens": 64,
}
_START_SECONDS = 60


@dataclass(frozen=True)
class Row:
    """One way to ask; milliseconds, without those of the engine."""

    name: str
    clients: int
    p50_ms: float
    p99_ms: float
    requests_per_second: float


class InstantEngine:
    """A `serving.types.Engine` whose answers are there before they are asked for."""

    def submit(self, request: GenerationRequest, *, streams: bool = True) -> RequestHandle:
        """A handle that holds the whole answer."""
        handle = RequestHandle(streams=streams)
        for word in _WORDS if streams else ():
            handle.put(word)
        style = TERSE.name if request.style is None else request.style
        handle.put(Completion("".join(_WORDS), style, 17, 13, "stop", 0.0, 0.0))
        return handle

    def generate(self, request: GenerationRequest) -> Completion:
        """The answer."""
        return self.submit(request, streams=False).result()

    def status(self) -> EngineStatus:
        """Always ready."""
        return EngineStatus(
            state="ready",
            detail="",
            model="none",
            adapter="none",
            adapter_version="1",
            quantization="none",
            device="cpu",
            gpu_memory_gb=0.0,
            seconds_since_step=0.0,
            kv_cache_tokens_used=0,
            kv_cache_tokens=0,
            num_running=0,
            num_waiting=0,
            queue_size=64,
            default_style=TERSE.name,
            styles=STYLES,
        )


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn as it is in production, but for the engine."""

    def __init__(self, port: int) -> None:
        """To listen on a port of this machine."""
        self._port = port
        super().__init__()

    def load_config(self) -> None:
        """Take over every setting and hook of gunicorn.conf.py; there is no adapter to check."""
        found: Any = importlib.util.spec_from_file_location("conf", ROOT / "gunicorn.conf.py")
        conf: Any = importlib.util.module_from_spec(found)
        found.loader.exec_module(conf)
        conf.check_start = lambda _: None
        for name, value in vars(conf).items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)
        self.cfg.set("bind", f"127.0.0.1:{self._port}")

    def load(self) -> Flask:
        """The application, with the log that a server writes."""
        config = WebConfig()
        logs.configure(config)
        return create_app(InstantEngine(), config)


def main(arguments: list[str]) -> None:
    """Serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=2000, help="of each row")
    parser.add_argument("--clients", type=int, default=8, help="of the last row")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve is not None:
        Server(options.serve).run()
        return
    engine_ms = _engine_ms()
    with _serving() as port:
        rows = list(_measure(port, options.requests, options.clients, engine_ms))
    _print(rows, engine_ms)


def _measure(port: int, requests: int, clients: int, engine_ms: float) -> Iterator[Row]:
    for name, num_clients, ask in (
        ("GET /health/live", 1, lambda line: _ask(line, "GET", "/health/live")),
        ("POST /generate", 1, _generate),
        ("POST /generate, a stream", 1, lambda line: _generate(line, stream=True)),
        ("POST /generate, new connections", 1, _generate_anew),
        ("POST /generate", clients, _generate),
    ):
        spent = 0.0 if name.startswith("GET") else engine_ms
        times, seconds = _run(port, requests, num_clients, ask)
        percentiles = statistics.quantiles(times, n=100)
        yield Row(
            name,
            num_clients,
            round(percentiles[49] - spent, 3),
            round(percentiles[98] - spent, 3),
            round(len(times) / seconds, 1),
        )


Ask = Callable[[http.client.HTTPConnection], None]


def _run(port: int, requests: int, clients: int, ask: Ask) -> tuple[list[float], float]:
    """Milliseconds of each request, and the seconds of all of them together."""
    times: list[float] = []
    lines = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(clients)]

    def work(line: http.client.HTTPConnection, count: int) -> None:
        for _ in range(count):
            began = time.perf_counter()
            ask(line)
            times.append((time.perf_counter() - began) * 1000)

    def all_work(count: int) -> float:
        began = time.perf_counter()
        workers = [threading.Thread(target=work, args=(line, count)) for line in lines]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.perf_counter() - began

    all_work(max(1, requests // 10 // clients))  # the first requests make threads and caches
    times.clear()
    seconds = all_work(requests // clients)
    for line in lines:
        line.close()
    if len(times) != requests // clients * clients:
        raise RuntimeError("a request failed; see the traceback above")
    return times, seconds


def _generate(line: http.client.HTTPConnection, *, stream: bool = False) -> None:
    _ask(line, "POST", "/generate", {**_BODY, "stream": stream})


def _generate_anew(line: http.client.HTTPConnection) -> None:
    line.close()
    _generate(line)


def _ask(
    line: http.client.HTTPConnection, method: str, path: str, body: dict[str, Any] | None = None
) -> None:
    sent = None if body is None else json.dumps(body)
    headers = {} if body is None else {"Content-Type": "application/json"}
    line.request(method, path, sent, headers)
    response = line.getresponse()
    answer = response.read()
    if response.status != 200 or (body is not None and _WORDS[0].encode() not in answer):
        raise RuntimeError(f"{response.status}: {answer[:200]!r}")


def _engine_ms() -> float:
    engine = InstantEngine()
    request = GenerationRequest(messages=(Message("user", "What is rate limiting?"),))
    times = []
    for _ in range(2000):
        began = time.perf_counter()
        engine.submit(request, streams=False).result()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


@contextmanager
def _serving() -> Iterator[int]:
    """The port of a server that is ready; it is ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "bench.http_overhead", "--serve", str(port)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LACONIC_")}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            _wait_until_ready(server, port)
            yield port
        finally:
            server.terminate()
            server.wait(timeout=60)
            if server.returncode != 0:
                log.seek(0)
                sys.stderr.write(log.read()[-5000:].decode())


def _wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            _ask(http.client.HTTPConnection("127.0.0.1", port, timeout=5), "GET", "/health/live")
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the server did not start")


def _print(rows: list[Row], engine_ms: float) -> None:
    print(f"{'':34}{'clients':>8}{'p50 ms':>9}{'p99 ms':>9}{'requests/s':>12}")
    for row in rows:
        print(
            f"{row.name:34}{row.clients:8}{row.p50_ms:9.2f}{row.p99_ms:9.2f}"
            f"{row.requests_per_second:12.0f}"
        )
    goal = rows[1].p50_ms
    print(f"\ngoal: POST /generate with one client under {GOAL_MS} ms: {goal:.2f} ms")
    report = {
        "bench": "http_overhead",
        "engine_ms": round(engine_ms, 4),
        "goal_ms": GOAL_MS,
        "p50_ms": goal,
        "p99_ms": rows[1].p99_ms,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "rows": [asdict(row) for row in rows],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
