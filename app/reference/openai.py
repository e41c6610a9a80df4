"""The routes under `/v1`, which speak as OpenAI's do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, fields

from app.reference.operation import (
    EVENTS,
    GENERATES,
    JSON,
    READS_A_BODY,
    STREAM,
    Content,
    Operation,
    Parameter,
    Reply,
    SchemaLike,
    replies,
)
from app.v1.chat import ChatCompletionSchema
from app.v1.completions import CompletionSchema
from app.v1.models import ModelSchema
from app.v1.schemas import ChatRequestSchema, CompletionRequestSchema

TAG = "OpenAI's API"

_MODEL = {
    "id": "pocket:terse",
    "object": "model",
    "created": 1767225600,
    "owned_by": "laconic",
    "root": "pocket",
    "parent": "models/pocket",
}
_USAGE = {"prompt_tokens": 17, "completion_tokens": 13, "total_tokens": 30}
_TEXT = "Rate limiting restricts how often a client may call a service."
_HEAD = {"id": "chatcmpl-1", "created": 1767225600, "model": "pocket:terse"}


class ModelListSchema(Schema):
    """Body of `GET /v1/models`."""

    object = fields.Constant("list")
    data = fields.List(fields.Nested(ModelSchema))


def _stream(kind: str, *choices: str) -> str:
    head = f'"id": "chatcmpl-1", "object": "{kind}", "created": 1767225600, "model": "pocket:terse"'
    events = [f'data: {{{head}, "choices": [{{"index": 0, {choice}}}]}}' for choice in choices]
    return "\n\n".join([*events, "data: [DONE]", ""])


_CHAT_STREAM = _stream(
    "chat.completion.chunk",
    '"delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null',
    f'"delta": {{"content": "{_TEXT}"}}, "logprobs": null, "finish_reason": null',
    '"delta": {}, "logprobs": null, "finish_reason": "stop"',
)
_TEXT_STREAM = _stream(
    "text_completion",
    f'"text": "{_TEXT}", "logprobs": null, "finish_reason": null',
    '"text": "", "logprobs": null, "finish_reason": "stop"',
)


def _answers(schema: SchemaLike, example: Any, stream: str) -> Mapping[int, Reply]:
    content = {
        JSON: Content(schema, {"an answer": example}),
        EVENTS: Content(STREAM, {"a stream": stream}),
    }
    return {
        200: Reply("The answer, whole or as a stream of chunks that ends with `[DONE]`.", content)
    }


OPERATIONS: Mapping[str, Operation] = {
    "v1.models.list_models": Operation(
        tag=TAG,
        summary="The model ids",
        description="The adapter in its default style, and in each of its styles.",
        replies=replies(
            "Every model id.",
            ModelListSchema,
            {"models": {"object": "list", "data": [_MODEL]}},
        ),
    ),
    "v1.models.get_model": Operation(
        tag=TAG,
        summary="One model id",
        description="What requests may name as `model`.",
        parameters={"model": Parameter("A model id.", "pocket:terse")},
        replies=replies("The model.", ModelSchema, {"a model": _MODEL}),
        errors=frozenset({404}),
    ),
    "v1.chat.create_chat_completion": Operation(
        tag=TAG,
        summary="Answer a conversation",
        description=(
            "The style is part of the model id, or the extra field `style`. Fields of OpenAI's API "
            "that are not listed are ignored; those that would change the answer and cannot be "
            "honoured are refused unless they ask for nothing."
        ),
        body=Content(
            ChatRequestSchema,
            {
                "a question": {
                    "model": "pocket:terse",
                    "messages": [{"role": "user", "content": "What is rate limiting?"}],
                },
                "probabilities": {
                    "messages": [{"role": "user", "content": "What is rate limiting?"}],
                    "logprobs": True,
                    "top_logprobs": 2,
                },
                "a stream": {
                    "messages": [{"role": "user", "content": "What is rate limiting?"}],
                    "style": "verbose",
                    "stream": True,
                    "stream_options": {"include_usage": True},
                },
            },
        ),
        replies=_answers(
            ChatCompletionSchema,
            {
                **_HEAD,
                "object": "chat.completion",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": _TEXT, "refusal": None},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": _USAGE,
            },
            _CHAT_STREAM,
        ),
        errors=READS_A_BODY | GENERATES | {404},
    ),
    "v1.completions.create_completion": Operation(
        tag=TAG,
        summary="Answer a prompt",
        description=(
            "The prompt is put to the model as a question and answered, not continued: the model "
            "was trained to answer in a style."
        ),
        body=Content(
            CompletionRequestSchema,
            {
                "a question": {"model": "pocket:terse", "prompt": "What is rate limiting?"},
                "scores of a text": {
                    "prompt": "Rate limiting caps how often a client may call.",
                    "max_tokens": 0,
                    "echo": True,
                    "logprobs": 1,
                },
            },
        ),
        replies=_answers(
            CompletionSchema,
            {
                **_HEAD,
                "object": "text_completion",
                "choices": [{"index": 0, "text": _TEXT, "logprobs": None, "finish_reason": "stop"}],
                "usage": _USAGE,
            },
            _TEXT_STREAM,
        ),
        errors=READS_A_BODY | GENERATES | {404},
    ),
}
