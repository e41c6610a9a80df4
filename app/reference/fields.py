"""What the schemas' own kinds of fields are in JSON Schema, and what each field means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields
from marshmallow.validate import Range

from app import schemas, training_status
from app.v1 import fields as v1_fields
from serving.types import MOST_LOGPROBS

_JSON_TYPES: Mapping[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}

_COMPUTED: Mapping[str, str] = {
    "latency": "number",
    "gpu_memory": "number",
    "total_tokens": "integer",
}
"""JSON types of the fields that a function makes."""

MEANINGS: Mapping[str, str] = {
    "prompt": "The user's words.",
    "messages": "The conversation so far; the last message is the user's.",
    "role": "Who speaks.",
    "content": "The words.",
    "style": "A style of the adapter; null for the default one.",
    "GenerateResponse.style": "The style of the answer.",
    "EchoResponse.style": "The style of the answer.",
    "temperature": "0 always takes the likeliest token; null leaves it to the style.",
    "top_p": "Sample from the likeliest tokens that together have this probability.",
    "top_k": "Sample from that many of the likeliest tokens; 0 for all.",
    "min_new_tokens": "The answer has at least that many tokens.",
    "max_new_tokens": "The answer has at most that many tokens.",
    "max_tokens": "The answer has at most that many tokens.",
    "CompletionRequest.max_tokens": "The answer has at most that many tokens; 0, which only scores "
    "the prompt, needs `echo` and `logprobs`.",
    "max_completion_tokens": "The answer has at most that many tokens; the newer name.",
    "seed": "Makes a sampled answer repeatable.",
    "stop": "Texts in front of which the answer ends.",
    "stream": "Send the answer as server-sent events while it is being generated.",
    "stream_options": "What a stream holds besides text.",
    "include_usage": "End the stream with a chunk that counts tokens.",
    "logprobs": "Report the log-probability of every token of the answer; not with `stream`.",
    "CompletionRequest.logprobs": "Report the log-probability of every token, and so many of the "
    "likeliest ones in its place; false or null for no report. Not with `stream`.",
    "ChatChoice.logprobs": "The tokens of the answer; null if they were not asked for.",
    "CompletionChoice.logprobs": "The tokens of the text; null if they were not asked for.",
    "top_logprobs": "So many of the likeliest tokens for every place; needs `logprobs`.",
    "TokenScore.top_logprobs": "The likeliest tokens in its place.",
    "CompletionScores.top_logprobs": "The likeliest tokens in the place of each, and the token "
    "itself; null for the first of an echoed prompt.",
    "echo": "Put the prompt in front of the answer, and score its tokens too.",
    "ChatScores.content": "The tokens.",
    "CompletionScores.tokens": "How each token reads.",
    "token_logprobs": "The log-probability of each token; null for the first of an echoed prompt.",
    "text_offset": "Characters of the text in front of each token.",
    "token": "How the token reads.",
    "logprob": "Natural logarithm of its probability to the model.",
    "bytes": "Its bytes in UTF-8.",
    "response": "The answer.",
    "tokens": "Tokens of the answer.",
    "prompt_tokens": "Tokens of the prompt.",
    "completion_tokens": "Tokens of the answer.",
    "total_tokens": "Tokens of prompt and answer.",
    "latency": "Seconds from acceptance to the last token.",
    "finish_reason": "`stop` if the model or a stop text ended the answer, `length` if the limit.",
    "status": "How the engine is; `ready` when it can answer.",
    "Problem.status": "The HTTP status.",
    "detail": "The same for people.",
    "Health.detail": "Why the engine cannot answer; empty if it can.",
    "errors": "Messages by the field of the request.",
    "model": "A model id; null for the adapter in its default style.",
    "ChatCompletion.model": "The model id of the answer.",
    "Completion.model": "The model id of the answer.",
    "Health.model": "The base model.",
    "adapter": "Name of the trained adapter.",
    "adapter_version": "Its version.",
    "quantization": "How the weights of the base are kept.",
    "device": "Where the model runs.",
    "gpu_memory": "Gigabytes that the process holds on the GPU; 0 on the CPU.",
    "running": "Requests that are being answered.",
    "waiting": "Requests in the queue.",
    "queue_size": "Requests that may wait; one more is refused.",
    "default_style": "The style of requests that name none.",
    "styles": "The styles that requests may name.",
    "preset": "Settings that hold where a request gives none.",
    "do_sample": "Whether tokens are drawn by chance.",
    "ok": "Whether the probe succeeds.",
    "reasons": "Why it does not; empty if it does.",
    "code": "The same for programs.",
    "message": "The user's words.",
    "ChatChoice.message": "The answer.",
    "OpenAIErrorDetail.message": "What went wrong, for people.",
    "param": "The field of the request that is wrong.",
    "type": "The kind of error.",
    "title": "The name of the HTTP status.",
    "choices": "One answer.",
    "text": "The answer.",
    "usage": "Tokens that the request took.",
    "created": "Seconds since 1970.",
    "root": "The adapter.",
    "parent": "The base model.",
    "history": "The conversation so far.",
    "state": "How the run is; `stale` if it seems to have died, `idle` if there is none.",
    "step": "Steps done.",
    "total_steps": "Steps of the whole run.",
    "loss": "Of the last step that was logged.",
    "eta_seconds": "Until the run is finished.",
    "memory_gb": "Gigabytes that the trainer holds.",
    "updated": "When the trainer last wrote this.",
}


def add_to(converter: OpenAPIConverter) -> None:
    """Teach a converter this project's fields."""
    for function in (_kind, _limits, _meaning):
        converter.add_attribute_function(function)  # type: ignore[no-untyped-call]


def _kind(self: OpenAPIConverter, field: fields.Field[Any], ret: dict[str, Any]) -> dict[str, Any]:
    """The JSON type, where marshmallow does not know it."""
    if not ret.get("default", True):  # leaving a field out is described by its meaning
        del ret["default"]
    found: dict[str, Any] = {}
    match field:
        case fields.Function():
            found = {"type": _COMPUTED[str(field.name)]} if field.name in _COMPUTED else {}
        case fields.Constant():
            found = {"type": _JSON_TYPES[type(field.constant)], "const": field.constant}
        case training_status.Moment():
            found = {"type": ["string", "null"], "format": "date-time"}
        case v1_fields.Neutral():
            found = {"enum": [*field.neutral, None], "description": f"Ignored. {field.why}"}
        case v1_fields.NumAlternatives():
            count = {"type": "integer", "minimum": 0, "maximum": MOST_LOGPROBS}
            found = {"anyOf": [count, {"const": False}]}
        case schemas.StopTexts():
            # OpenAI's clients send empty texts for none
            shortest = 0 if isinstance(field, v1_fields.Stop) else 1
            text = {
                "type": "string",
                "minLength": shortest,
                "maxLength": schemas.MOST_STOP_CHARACTERS,
            }
            found = _one_or_several(text, schemas.MOST_STOP_TEXTS)
        case v1_fields.Content():
            found = _one_or_several(_WORDS, None, least=1, part=_PART)
        case v1_fields.Prompt():
            found = _one_or_several({**_WORDS, "pattern": schemas.WORDS_PATTERN}, 1, least=1)
    return _or_null(field, found)


def _or_null(field: fields.Field[Any], found: dict[str, Any]) -> dict[str, Any]:
    """The same for a field that may be null, where several kinds are allowed."""
    # A message without words is refused, though its schema reads null to say why.
    if field.allow_none and "anyOf" in found and not isinstance(field, v1_fields.Content):
        found["anyOf"].append({"type": "null"})
    return found


_WORDS = {"type": "string"}
_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": _WORDS},
    "required": ["type", "text"],
}


def _one_or_several(
    one: Mapping[str, Any],
    most: int | None,
    *,
    least: int = 0,
    part: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One value or a list; its entries may differ from the one."""
    several: dict[str, Any] = {"type": "array", "items": dict(one if part is None else part)}
    if least > 0:
        several["minItems"] = least
    if most is not None:
        several["maxItems"] = most
    return {"anyOf": [dict(one), several]}


def _limits(
    self: OpenAPIConverter, field: fields.Field[Any], ret: dict[str, Any]
) -> dict[str, Any]:
    """Limits of which apispec does not know: open ranges, and bounded lists."""
    found: dict[str, Any] = {}
    for check in field.validators:
        if isinstance(check, Range) and not check.min_inclusive:
            found["exclusiveMinimum"] = ret.pop("minimum")
        if check is schemas.check_question:
            found |= {"minLength": 1, "pattern": schemas.WORDS_PATTERN}
        if check is schemas.check_conversation:
            found["minItems"] = 1
    if isinstance(field, schemas.BoundedList):
        found["maxItems"] = field.most
    return found


def _meaning(
    self: OpenAPIConverter, field: fields.Field[Any], ret: dict[str, Any]
) -> dict[str, Any]:
    """What the field is for; more exact where one name means several things."""
    if "description" in ret or not isinstance(field.parent, Schema):
        return {}
    name = str(field.name)
    exact = f"{type(field.parent).__name__.removesuffix('Schema')}.{name}"
    meaning = MEANINGS.get(exact, MEANINGS.get(name))
    return {} if meaning is None else {"description": meaning}
