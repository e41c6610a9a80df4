"""The only place that joins the web app to a real engine: `gunicorn wsgi:app`."""

from __future__ import annotations

import os
import signal

from flask import Flask

from app import create_app, logs
from app.config import WebConfig
from serving.config import EngineConfig
from serving.engine import ModelEngine
from serving.environment import read_environment


def build_app() -> Flask:
    """Check the settings and the adapter, begin to load the model, return the application.

    Raises:
        ValueError: a setting or the adapter is wrong; the message lists every problem.
        FileNotFoundError: there is no such base model.
    """
    engine_config, web_config = read_environment(os.environ, EngineConfig, WebConfig)
    logs.configure(web_config)
    engine = ModelEngine(engine_config, on_death=_leave)
    engine.start()
    application = create_app(engine, web_config)
    application.extensions["stop_engine"] = lambda: _stop(engine)
    return application


def _stop(engine: ModelEngine) -> None:
    """Let the engine's thread end; one that still loads cannot be hurried and holds nothing."""
    if engine.status().state != "loading":
        engine.stop()


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
