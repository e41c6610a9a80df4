"""The only place that joins the web app to a real engine: `gunicorn wsgi:app`."""

from __future__ import annotations

import logging
import os
import signal

from flask import Flask

from app import create_app
from serving.config import EngineConfig
from serving.engine import ModelEngine


def build_app() -> Flask:
    """Check the settings and the adapter, begin to load the model, return the application.

    Raises:
        ValueError: a setting or the adapter is wrong; the message lists every problem.
        FileNotFoundError: there is no such base model.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    engine = ModelEngine(EngineConfig.from_env(os.environ), on_death=_leave)
    engine.start()
    return create_app(engine)


def _leave() -> None:
    """End this process in good order, so that gunicorn starts another in its place."""
    os.kill(os.getpid(), signal.SIGTERM)


def __getattr__(name: str) -> Flask:
    """Build `app` when a server first asks for it, so that importing this file does nothing."""
    if name != "app":
        raise AttributeError(name)
    application = build_app()
    globals()["app"] = application
    return application
