"""The OpenAPI document as tests read it."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

from app import create_app
from app.reference.document import build_document
from tests.fakes import READY, FakeEngine

APP = create_app(FakeEngine())
DOCUMENT = build_document(APP.url_map, READY, asks_for_keys=True)
DESCRIBED = {
    (path, method): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


def follow(reference: str) -> Any:
    """What a reference within the document stands for; fails where there is no such thing."""
    assert reference.startswith("#/")
    place = DOCUMENT
    for name in reference[2:].split("/"):
        place = place[name]
    return place


def resolve(found: dict[str, Any]) -> Any:
    return follow(found["$ref"]) if "$ref" in found else found


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name]
    return found


def problems_of(value: Any, schema: dict[str, Any]) -> list[str]:
    """How a value does not fit a schema of the document."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(value)]
