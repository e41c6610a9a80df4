"""`GET /health`: whether the server can answer, and what it runs."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify

from app.schemas import HealthSchema
from serving.types import Engine

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
def health() -> Response:
    """200 when the engine can answer, else 503; the same keys in both cases."""
    engine: Engine = current_app.extensions["engine"]
    status = engine.status()
    response = jsonify(HealthSchema().dump(status))
    response.status_code = 200 if status.state == "ready" else 503
    return response
