"""`GET /health…`: whether the server can answer, and why not; never waits for the engine.

/health                        what runs and how it is; 503 while it cannot answer
/health/live, /v2/health/live  503 only when nothing but a new process helps
/health/ready, /v2/health/ready  503 while new requests had better go elsewhere
The addresses under /v2 are those of the Open Inference Protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, jsonify
from marshmallow import Schema, fields

from app.context import get_drain, get_engine
from app.schemas import HealthSchema
from serving.types import EngineStatus

blueprint = Blueprint("health", __name__)

_BEYOND_HELP = ("dead", "stalled")
"""States from which an engine does not return by itself."""


@dataclass(frozen=True)
class Reason:
    """Why a probe fails: a code for programs and a sentence for people."""

    code: str
    detail: str


class ReasonSchema(Schema):
    """One reason why a probe fails."""

    code = fields.String()
    detail = fields.String()


class ProbeSchema(Schema):
    """Body of `GET /health/live` and `GET /health/ready`."""

    ok = fields.Boolean()
    reasons = fields.List(fields.Nested(ReasonSchema))


@blueprint.get("/health")
def health() -> Response:
    """200 when the engine can answer, else 503; the same keys in both cases."""
    status = get_engine().status()
    response = jsonify(HealthSchema().dump(status))
    response.status_code = 200 if status.state == "ready" else 503
    return response


@blueprint.get("/health/live")
def live() -> Response:
    """200 unless the engine is dead or stuck; loading and being full are no reasons to restart."""
    return _probe(_reasons_not_live(get_engine().status()))


@blueprint.get("/health/ready")
def ready() -> Response:
    """200 when a new request would be answered, else 503 with every reason."""
    return _probe(_reasons_not_ready(get_engine().status()))


@blueprint.get("/v2/health/live")
def live_v2() -> Response:
    """As `/health/live`, with an empty object for a body."""
    return _bare_probe(_reasons_not_live(get_engine().status()))


@blueprint.get("/v2/health/ready")
def ready_v2() -> Response:
    """As `/health/ready`, with an empty object for a body."""
    return _bare_probe(_reasons_not_ready(get_engine().status()))


def _reasons_not_live(status: EngineStatus) -> list[Reason]:
    return [Reason(status.state, status.detail)] if status.state in _BEYOND_HELP else []


def _reasons_not_ready(status: EngineStatus) -> list[Reason]:
    reasons = []
    if status.state != "ready":
        reasons.append(Reason(status.state, status.detail))
    if get_drain().is_draining:
        reasons.append(Reason("draining", "the server is about to stop"))
    if status.state == "ready" and status.num_waiting >= status.queue_size:
        waiting = f"{status.num_waiting} requests are waiting; at most {status.queue_size} may"
        reasons.append(Reason("queue_full", waiting))
    return reasons


def _probe(reasons: list[Reason]) -> Response:
    response = jsonify(ProbeSchema().dump({"ok": not reasons, "reasons": reasons}))
    response.status_code = 503 if reasons else 200
    return response


def _bare_probe(reasons: list[Reason]) -> Response:
    response = jsonify({})
    response.status_code = 503 if reasons else 200
    return response
