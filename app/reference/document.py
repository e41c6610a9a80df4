"""The OpenAPI document: routes from the application, shapes from its schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema
from werkzeug.routing import Map, Rule

from app import v1
from app.auth import PUBLIC_ROUTES
from app.reference import errors, fields, native, openai, operating
from app.reference.operation import Content, Operation, Reply
from serving.types import EngineStatus

OPENAPI_VERSION = "3.1.0"
OPERATIONS: Mapping[str, Operation] = {
    **native.OPERATIONS,
    **openai.OPERATIONS,
    **operating.OPERATIONS,
}
"""By endpoint of the application."""

_TITLE = "Laconic"
_VERSION = "0.1.0"
_DESCRIPTION = """\
Answers in a style: short where a sentence will do, long where it will not.

Every error is a problem document (RFC 9457), under `/v1` an error object as OpenAI has it. \
An address that does not exist is a 404, a method that an address does not know a 405. \
503 and 429 carry `Retry-After`. Where a route asks for a key, send it as a bearer token.
"""
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key from whoever runs the server.",
}
_EITHER = {"GenerateRequest": ("prompt", "messages"), "EchoRequest": ("message", "prompt")}
"""Fields of which a body must have exactly one."""
_EXACTLY: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "OpenAIChatMessage": {
        "role": {"enum": ["system", "developer", "user", "assistant"]},
    },
    "TrainingStatus": {"state": {"enum": ["idle", "running", "finished", "failed", "stale"]}},
    "Health": {
        "status": {"enum": ["loading", "ready", "stalled", "failed", "dead", "stopped"]},
    },
}
"""What fields may be where a schema's own checks do not say it."""
_CLOSED = "additionalProperties"
_PARTIAL = ("TrainingStatus",)
"""Schemas of answers that need not have all their fields."""
_ALWAYS = frozenset({400, 500})
"""400 is also what a name gets that is not among the trusted hosts."""
_GUARDED = frozenset({401, 429})


def build_document(url_map: Map, status: EngineStatus, *, asks_for_keys: bool) -> dict[str, Any]:
    """The document of an application's routes, whose engine has the styles of `status`."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name_schema)
    spec = APISpec(
        title=_TITLE,
        version=_VERSION,
        openapi_version=OPENAPI_VERSION,
        plugins=[plugin],
        info={"description": _DESCRIPTION, "license": {"name": "Apache-2.0"}},
        servers=[{"url": "/"}],
    )
    assert plugin.converter is not None  # APISpec has just initialised it
    fields.add_to(plugin.converter)
    spec.components.security_scheme("bearer", _BEARER)
    for name, header in errors.HEADERS.items():
        spec.components.header(name, dict(header))
    _describe_errors(spec)
    for rule in sorted(url_map.iter_rules(), key=_order):
        if rule.endpoint in OPERATIONS:
            asks = asks_for_keys and rule.rule not in PUBLIC_ROUTES
            _describe_route(spec, rule, OPERATIONS[rule.endpoint], asks_for_key=asks)
    document = spec.to_dict()
    _refine(document["components"]["schemas"], status)
    return document


def methods(rule: Rule) -> list[str]:
    """The methods of a rule, without those that Flask adds to every one."""
    return sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})


def path_of(rule: Rule) -> str:
    """A rule as a path of OpenAPI: `/v1/models/{model}`."""
    return re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)


def _order(rule: Rule) -> tuple[int, str]:
    return (list(OPERATIONS).index(rule.endpoint) if rule.endpoint in OPERATIONS else 0, rule.rule)


def _name_schema(schema: type[Schema] | Schema) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    name = kind.__name__.removesuffix("Schema")
    is_openai = kind.__module__.startswith(v1.__name__)
    return f"OpenAI{name}" if is_openai else name


def _describe_errors(spec: APISpec) -> None:
    for status in errors.STATUSES:
        for is_openai in (False, True):
            if not (is_openai and status == 422):  # there, such a request is a 400
                name = errors.name_of(status, is_openai=is_openai)
                spec.components.response(name, errors.describe(status, is_openai=is_openai))


def _describe_route(spec: APISpec, rule: Rule, operation: Operation, *, asks_for_key: bool) -> None:
    described: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "responses": _responses(rule, operation),
        "security": [{"bearer": []}] if asks_for_key else [],
    }
    if operation.body is not None:
        body = {"application/json": _content(operation.body)}
        described["requestBody"] = {"required": True, "content": body}
    if operation.parameters:
        described["parameters"] = [
            {
                "in": "path",
                "name": name,
                "required": True,
                "description": parameter.description,
                "schema": {"type": "string"},
                "example": parameter.example,
            }
            for name, parameter in operation.parameters.items()
        ]
    spec.path(path_of(rule), operations={method.lower(): described for method in methods(rule)})


def _responses(rule: Rule, operation: Operation) -> dict[str, Any]:
    is_openai = rule.rule.startswith(f"{v1.PREFIX}/")
    guarded = frozenset[int]() if rule.rule in PUBLIC_ROUTES else _GUARDED
    wrong = operation.errors | _ALWAYS | guarded
    if is_openai and 422 in wrong:
        wrong = (wrong - {422}) | {400}
    responses: dict[str, Any] = {
        str(status): _reply(reply) for status, reply in operation.replies.items()
    }
    for status in sorted(wrong):
        name = errors.name_of(status, is_openai=is_openai)
        responses.setdefault(str(status), {"$ref": f"#/components/responses/{name}"})
    return responses


def _reply(reply: Reply) -> dict[str, Any]:
    described = {"description": reply.description, "headers": errors.refer_to_headers()}
    content = {media_type: _content(content) for media_type, content in reply.content.items()}
    return {**described, "content": content} if content else described


def _content(content: Content) -> dict[str, Any]:
    described: dict[str, Any] = {"schema": content.schema}
    if content.examples:
        described["examples"] = {name: {"value": value} for name, value in content.examples.items()}
    return described


def _refine(schemas: dict[str, Any], status: EngineStatus) -> None:
    """Say what no single field of a schema can say."""
    for name, (one, other) in _EITHER.items():
        schemas[name]["oneOf"] = [{"required": [one]}, {"required": [other]}]
    schemas["OpenAIChatMessage"]["required"] = ["content", "role"]
    # there, what else a page keeps beside the words is ignored
    known = {key: value for key, value in schemas["Message"].items() if key != _CLOSED}
    schemas["EchoRequest"]["properties"]["history"]["items"] = known
    for name, properties in _EXACTLY.items():
        for field, keywords in properties.items():
            schemas[name]["properties"][field] |= keywords
    styles = [style.name for style in status.styles]
    for schema in schemas.values():
        style = schema.get("properties", {}).get("style", {})
        if "null" in style.get("type", ()):  # a style to choose, not one that was chosen
            style["enum"] = [*styles, None]
    for operation in OPERATIONS.values():
        for reply in operation.replies.values():
            for content in reply.content.values():
                if isinstance(content.schema, type):
                    _require_all(schemas, _name_schema(content.schema))


def _require_all(schemas: dict[str, Any], name: str) -> None:
    """Answers have all their fields, which schemas for writing do not say."""
    if name in _PARTIAL or name not in schemas:
        return
    properties = schemas[name].get("properties", {})
    if properties:
        schemas[name]["required"] = sorted(properties)
    for found in properties.values():
        for part in (found, found.get("items", {}), *found.get("anyOf", ())):
            if "$ref" in part:
                _require_all(schemas, part["$ref"].rpartition("/")[2])
