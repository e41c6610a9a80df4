"""The routes for whoever runs the server, and the pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema

from app.health import ProbeSchema
from app.reference.operation import (
    JSON,
    TEXT,
    Content,
    Operation,
    Parameter,
    Reply,
    replies,
)
from app.schemas import HealthSchema

TAG = "Operations"
PAGES = "Pages"

_HEALTH: Mapping[str, Any] = {
    "status": "ready",
    "detail": "",
    "model": "models/pocket",
    "adapter": "pocket",
    "adapter_version": "1",
    "quantization": "nf4",
    "device": "cuda:0",
    "gpu_memory": 4.5,
    "running": 2,
    "waiting": 0,
    "queue_size": 64,
    "default_style": "terse",
    "styles": [
        {
            "name": "terse",
            "description": "One sentence that answers the question.",
            "preset": {
                "temperature": 0.1,
                "top_p": 0.95,
                "min_new_tokens": 0,
                "max_new_tokens": 32,
                "do_sample": True,
            },
        }
    ],
}
_LOADING = "the model is being loaded"


class EmptySchema(Schema):
    """An object without keys."""


def _probe(
    good: str, bad: str, schema: type[Schema], examples: Mapping[int, Any]
) -> Mapping[int, Reply]:
    return {
        200: Reply(good, {JSON: Content(schema, {"good": examples[200]})}),
        503: Reply(bad, {JSON: Content(schema, {"bad": examples[503]})}),
    }


def _reasoned(code: str, detail: str) -> Mapping[int, Any]:
    reason = {"code": code, "detail": detail}
    return {200: {"ok": True, "reasons": []}, 503: {"ok": False, "reasons": [reason]}}


_NOTHING: Mapping[int, Any] = {200: {}, 503: {}}
_ALIVE = "The process answers and its engine is not beyond help."
_LOST = "The engine is dead or stuck: start another process."
_READY = "A new request would be answered."
_UNREADY = "Send new requests elsewhere."

OPERATIONS: Mapping[str, Operation] = {
    "health.health": Operation(
        tag=TAG,
        summary="What runs, and how it is",
        description="Never waits for the engine. The keys are the same with both statuses.",
        replies=_probe(
            "The engine can answer.",
            "It cannot; `status` and `detail` say why.",
            HealthSchema,
            {200: _HEALTH, 503: {**_HEALTH, "status": "loading", "detail": _LOADING}},
        ),
    ),
    "health.live": Operation(
        tag=TAG,
        summary="Whether the process should go on",
        description="For liveness probes: being busy, or loading, is no reason to be restarted.",
        replies=_probe(_ALIVE, _LOST, ProbeSchema, _reasoned("stalled", "no step for 61 seconds")),
    ),
    "health.ready": Operation(
        tag=TAG,
        summary="Whether to send requests here",
        description=(
            "For readiness probes and load balancers. Codes of reasons: `loading`, `failed`, "
            "`dead`, `stalled`, `stopped`, `draining`, `queue_full`."
        ),
        replies=_probe(_READY, _UNREADY, ProbeSchema, _reasoned("loading", _LOADING)),
    ),
    "health.live_v2": Operation(
        tag=TAG,
        summary="As /health/live, for the Open Inference Protocol",
        description="Same statuses, empty bodies.",
        replies=_probe(_ALIVE, _LOST, EmptySchema, _NOTHING),
    ),
    "health.ready_v2": Operation(
        tag=TAG,
        summary="As /health/ready, for the Open Inference Protocol",
        description="Same statuses, empty bodies.",
        replies=_probe(_READY, _UNREADY, EmptySchema, _NOTHING),
    ),
    "metrics.metrics": Operation(
        tag=TAG,
        summary="Figures for Prometheus",
        description="In the text format, or as OpenMetrics if the scraper asks for it.",
        replies=replies(
            "All series.",
            TEXT,
            {"a series": 'laconic_num_requests_running{model="models/pocket"} 2.0\n'},
            media_type="text/plain",
        ),
    ),
    "openapi.openapi": Operation(
        tag=PAGES,
        summary="This description",
        description="OpenAPI 3.1, made from the schemas by which requests are checked.",
        replies=replies("The document.", {"type": "object"}),
    ),
    "openapi.docs": Operation(
        tag=PAGES,
        summary="This description as a page",
        description="Needs nothing but this server.",
        replies=replies("The page.", TEXT, media_type="text/html"),
    ),
    "page.page": Operation(
        tag=PAGES,
        summary="The chat page",
        description="Needs nothing but this server.",
        replies=replies("The page.", TEXT, media_type="text/html"),
    ),
    "page.static_file": Operation(
        tag=PAGES,
        summary="A file of a page",
        description="Scripts, style sheets and the icon.",
        parameters={"name": Parameter("A file of a page.", "style.css")},
        replies={
            200: Reply(
                "The file.",
                {kind: Content(TEXT) for kind in ("text/javascript", "text/css", "image/svg+xml")},
            ),
            304: Reply("The file that the client has is still the same."),
        },
        errors=frozenset({404}),
    ),
}
