"""Settings that gunicorn reads by itself from this file's place."""

from __future__ import annotations

import math
import os
import resource
import signal
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any

from app import logs
from app.auth import check_addresses
from app.auth.keys import read_keys
from app.config import WebConfig
from app.drain import leave_when_done
from serving.config import EngineConfig
from serving.environment import BIND_VARIABLE, read_environment
from serving.startup import check_start

bind = os.environ.get(BIND_VARIABLE, "127.0.0.1:8000")
# `workers` is not set here, or WEB_CONCURRENCY would be ignored without a word instead of refused.
worker_class = "app.worker.LingeringWorker"
# The model is loaded in the worker: a CUDA context does not survive a fork.
preload_app = False
# With threads this guards against a hung process, not against long answers.
timeout = 120
# Longer than browsers and API clients pause between requests of one conversation.
keepalive = 5
# Nobody has a reason to send more; cookies of other servers on localhost need some room.
limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190
# The worker proves by touching a file there that it lives, which must not wait for a disk.
if os.access("/dev/shm", os.W_OK) and Path("/dev/shm").is_dir():
    worker_tmp_dir = "/dev/shm"
# Nothing uses it, and it could not be made where the file system is read-only.
control_socket_disable = True

# Every request that runs or waits holds a thread, and health checks need some as well: the engine's
# queue is what refuses requests, so threads must never be the shortage. Clients that are slow to
# send or to read hold one each until the limits below; a thread is made only when it is needed.
_THREADS_BESIDE_REQUESTS = 256
_CONNECTIONS_BESIDE_THREADS = 1000
# A client that sends nothing of what it has begun, or reads nothing, for that long is dropped;
# for reading up to three times that, as the system enlarges its buffers on the way. Who sends a
# byte now and then can hold on for longer: against many of those, use a proxy.
_RECEIVE_SECONDS = 5
_SEND_SECONDS = 3
# What is cut when the time of draining is up still gets a last word, within this time.
_SECONDS_TO_LEAVE = 5
_FILES_BESIDE_CONNECTIONS = 200


def on_starting(server: Any) -> None:
    """Stop with one clear message, before any worker starts, if this cannot be served."""
    _prepare(server.cfg)


def on_reload(server: Any) -> None:
    """The same for the settings that gunicorn has just read anew."""
    _prepare(server.cfg)


def when_ready(server: Any) -> None:
    """Check the addresses once more where gunicorn did not choose them but inherited sockets."""
    config = read_environment(os.environ, EngineConfig, WebConfig)[1]
    try:
        check_addresses([listener.sock.getsockname() for listener in server.LISTENERS], config)
    except ValueError as error:
        sys.exit(f"laconic cannot start: {error}")


def nworkers_changed(server: Any, new_value: int, old_value: int | None) -> None:
    """Stay with one worker when a signal asks for another."""
    if old_value is not None and new_value > 1:
        server.log.warning("there is one worker at most: %s", _WHY_ONE_WORKER)
        server.num_workers = 1


def pre_fork(server: Any, worker: Any) -> None:
    """Set limits against slow clients, which the accepted connections inherit."""
    for listener in server.LISTENERS:
        for option, seconds in (
            (socket.SO_RCVTIMEO, _RECEIVE_SECONDS),
            (socket.SO_SNDTIMEO, _SEND_SECONDS),
        ):
            listener.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))


def post_worker_init(worker: Any) -> None:
    """Drain when told to stop; gunicorn's own way would stop listening at once."""
    found = worker.wsgi.extensions
    drain, engine = found["drain"], found["engine"]
    signal.signal(signal.SIGTERM, lambda *_: drain.begin())
    signal.siginterrupt(signal.SIGTERM, False)
    threading.Thread(
        target=leave_when_done,
        args=(drain, engine, lambda: worker.handle_exit(signal.SIGTERM, None)),
        kwargs={"is_serving": lambda: worker.alive},
        name="drain",
        daemon=True,
    ).start()


def worker_exit(server: Any, worker: Any) -> None:
    """Cut what still runs, and let the engine end; nothing runs any more after a drain."""
    application = getattr(worker, "wsgi", None)
    if application is None:  # it could not be made
        return
    application.extensions["drain"].end()
    if stop_engine := application.extensions.get("stop_engine"):
        stop_engine()


_WHY_ONE_WORKER = (
    "one process owns the model; another would load it again, need the memory twice and not be "
    "any faster. Leave out --workers and WEB_CONCURRENCY; for more machines see deploy/"
)


def _prepare(cfg: Any) -> None:
    try:
        engine_config, config = read_environment(os.environ, EngineConfig, WebConfig)
        logs.configure(config)
        if cfg.workers > 1:
            raise ValueError(f"{cfg.workers} workers are one too many: {_WHY_ONE_WORKER}")
        check_addresses(cfg.address, config)
        if config.api_keys_file is not None:
            read_keys(config.api_keys_file)
        check_start(engine_config)
    except (OSError, ValueError) as error:
        sys.exit(f"laconic cannot start: {error}")
    requests = engine_config.max_batch_size + engine_config.queue_size
    cfg.set("threads", requests + _THREADS_BESIDE_REQUESTS)
    cfg.set("worker_connections", _allow_connections(cfg.threads + _CONNECTIONS_BESIDE_THREADS))
    cfg.set("graceful_timeout", math.ceil(config.drain_seconds) + _SECONDS_TO_LEAVE)


def _allow_connections(wanted: int) -> int:
    """How many connections may be open: one more than there can be files would end the worker."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    needed = wanted + _FILES_BESIDE_CONNECTIONS
    if now != unlimited and now < needed:
        now = needed if most == unlimited else min(needed, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))
    return wanted if now == unlimited else min(wanted, now - _FILES_BESIDE_CONNECTIONS)
