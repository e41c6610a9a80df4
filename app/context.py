"""What every request can reach: the engine, the settings and whether the server is stopping."""

from __future__ import annotations

from flask import Flask, current_app

from app.config import WebConfig
from app.drain import Drain
from serving.types import Engine


def attach(app: Flask, engine: Engine, config: WebConfig, drain: Drain) -> None:
    """Give an application what its requests can reach."""
    app.extensions["engine"] = engine
    app.extensions["web_config"] = config
    app.extensions["drain"] = drain


def get_engine() -> Engine:
    """The engine of the current application."""
    engine: Engine = current_app.extensions["engine"]
    return engine


def get_config() -> WebConfig:
    """The settings of the current application."""
    config: WebConfig = current_app.extensions["web_config"]
    return config


def get_drain() -> Drain:
    """Whether the current application is about to stop."""
    drain: Drain = current_app.extensions["drain"]
    return drain
