"""The HTTP face of Laconic: parses requests, asks an engine, writes JSON."""

from __future__ import annotations

from flask import Flask

from app import (
    ai_echo,
    auth,
    context,
    ending,
    errors,
    generate,
    headers,
    health,
    limits,
    logs,
    measured_engine,
    metrics,
    openapi,
    page,
    training_status,
    v1,
)
from app.config import WebConfig
from app.drain import Drain, DrainingEngine
from serving.types import Engine


def create_app(engine: Engine, config: WebConfig | None = None) -> Flask:
    """The application around a ready-made engine."""
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    settings = WebConfig() if config is None else config
    drain = Drain(settings.drain_seconds)
    measured = measured_engine.measure(app, DrainingEngine(engine, drain))
    context.attach(app, measured, settings, drain)
    logs.register(app)
    ending.register(app)
    headers.register(app, settings)
    auth.register(app, settings)
    limits.register(app, settings)
    app.register_blueprint(generate.blueprint)
    app.register_blueprint(ai_echo.blueprint)
    app.register_blueprint(training_status.blueprint)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(metrics.blueprint)
    app.register_blueprint(openapi.blueprint)
    app.register_blueprint(v1.blueprint)
    app.register_blueprint(page.blueprint)
    errors.register(app)
    return app
