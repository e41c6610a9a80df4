"""The HTTP face of Laconic: parses requests, asks an engine, writes JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask

from app import errors, generate, health
from serving.types import Engine

DEFAULTS: dict[str, Any] = {
    "MAX_BODY_BYTES": 64 * 1024,
    "MAX_PROMPT_CHARACTERS": 16_000,
}


def create_app(engine: Engine, settings: Mapping[str, Any] | None = None) -> Flask:
    """The application around a ready-made engine; `settings` replace `DEFAULTS` by name."""
    unknown = set(settings or {}) - set(DEFAULTS) - {"TESTING"}
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
    app = Flask(__name__, static_folder=None)
    app.config.from_mapping({**DEFAULTS, **(settings or {})})
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["engine"] = engine
    app.register_blueprint(generate.blueprint)
    app.register_blueprint(health.blueprint)
    errors.register(app)
    return app
