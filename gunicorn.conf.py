"""Settings that gunicorn reads by itself from this file's place."""

from __future__ import annotations

import os
import sys
from typing import Any

from serving.config import BIND_VARIABLE, EngineConfig
from serving.startup import check_start

bind = os.environ.get(BIND_VARIABLE, "127.0.0.1:8000")
# One process owns the model; a second one would load it again and not be any faster.
workers = 1
worker_class = "gthread"
# The model is loaded in the worker: a CUDA context does not survive a fork.
preload_app = False
# With gthread this guards against a hung process, not against long answers.
timeout = 120
graceful_timeout = 120


# Every request that runs or waits holds a thread, and health checks need some as well: the engine's
# queue is what refuses requests, so threads must never be the shortage.
_THREADS_BESIDE_REQUESTS = 16


def on_starting(server: Any) -> None:
    """Stop with one clear message, before any worker starts, if the adapter cannot be served."""
    try:
        config = EngineConfig.from_env(os.environ)
        check_start(config)
        requests = config.max_batch_size + config.queue_size
        server.cfg.set("threads", requests + _THREADS_BESIDE_REQUESTS)
    except (OSError, ValueError) as error:
        sys.exit(f"laconic cannot start: {error}")
