"""How a route is described: what it takes, what it answers, what can go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

JSON = "application/json"
EVENTS = "text/event-stream"

SchemaLike = type[Schema] | Mapping[str, Any]
"""A schema of ours, or what JSON Schema says of something that is no JSON object."""
Examples = Mapping[str, Any]
"""Values, or whole texts for what is no JSON, by what they show."""

TEXT: SchemaLike = {"type": "string"}
STREAM: SchemaLike = {}
"""Nothing: tools differ on whether the schema of a stream is that of its text or of its events."""

READS_A_BODY = frozenset({400, 413, 415, 422})
GENERATES = frozenset({503, 504})


@dataclass(frozen=True)
class Content:
    """A body in one media type."""

    schema: SchemaLike
    examples: Examples = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What comes with one status that is no error, or with an error that has a body of its own."""

    description: str
    content: Mapping[str, Content] = field(default_factory=dict)


@dataclass(frozen=True)
class Parameter:
    """A part of the path."""

    description: str
    example: str


@dataclass(frozen=True)
class Operation:
    """One route and method."""

    tag: str
    summary: str
    description: str
    replies: Mapping[int, Reply]
    body: Content | None = None
    errors: frozenset[int] = frozenset()
    """Statuses with the error shape of the path, beside those that every route can give."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


def replies(
    description: str,
    schema: SchemaLike,
    examples: Examples | None = None,
    *,
    media_type: str = JSON,
) -> Mapping[int, Reply]:
    """The usual case: 200 with one kind of body."""
    content = Content(schema, {} if examples is None else examples)
    return {200: Reply(description, {media_type: content})}
