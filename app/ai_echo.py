"""`POST /api/ai-echo/chat` and `/api/ai-echo/stream`: what an existing chat page calls."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify
from marshmallow import (
    EXCLUDE,
    Schema,
    ValidationError,
    fields,
    post_load,
    validates_schema,
)

from adapters.prompts import Message
from app import errors, sse
from app.body import read_json_object
from app.disconnect import wait_for
from app.generate import submit
from app.schemas import (
    MOST_MESSAGES,
    TEXT_MESSAGES,
    BoundedList,
    MessageSchema,
    check_length,
    check_question,
    style_name,
)
from serving.types import Completion, GenerationRequest

blueprint = Blueprint("ai_echo", __name__, url_prefix="/api/ai-echo")


@blueprint.post("/chat")
def chat() -> Response:
    """Answer a message, waiting for the whole answer."""
    handle = submit(_read_request(), words_field="message", streams=False)
    return jsonify(EchoResponseSchema().dump(wait_for(handle)))


@blueprint.post("/stream")
def stream() -> Response:
    """Answer a message while the answer is being generated."""
    handle = submit(_read_request(), words_field="message", streams=True)
    return sse.respond(handle, _Tokens())


class EchoRequestSchema(Schema):
    """Body of both routes."""

    class Meta:
        """The page is not ours: whatever else it sends is no mistake of a user."""

        unknown = EXCLUDE

    message = fields.String(validate=check_question, error_messages=TEXT_MESSAGES)
    prompt = fields.String(validate=check_question, error_messages=TEXT_MESSAGES)
    style = style_name()
    history = BoundedList(
        fields.Nested(MessageSchema(unknown=EXCLUDE)), most=MOST_MESSAGES - 1, allow_none=True
    )

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_words(self, _: dict[str, Any], body: dict[str, Any], **__: Any) -> None:
        """Refuse a body without words, and one with words in two places."""
        if "message" in body and "prompt" in body:
            raise ValidationError("Send either 'message' or 'prompt', not both.", "message")
        if "message" not in body and "prompt" not in body:
            raise ValidationError(
                'Missing. Send the text to answer, e.g. {"message": "What is DNS?"}.', "message"
            )

    @validates_schema
    def check_together(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse a conversation that is too long as a whole."""
        try:
            check_length(sum(len(message.content) for message in _conversation(data)))
        except ValidationError as error:
            raise ValidationError(error.messages, "history") from error

    @post_load
    def make_request(self, data: dict[str, Any], **_: Any) -> GenerationRequest:
        """A frozen request whose last message is the one to answer."""
        return GenerationRequest(messages=_conversation(data), style=data["style"])


class EchoResponseSchema(Schema):
    """Body of an answer, and of the last event of a stream."""

    response = fields.String(attribute="text")
    style = fields.String()
    tokens = fields.Integer(attribute="num_tokens")
    latency = fields.Function(lambda completion: round(completion.seconds, 3))
    finish_reason = fields.String()


def _read_request() -> GenerationRequest:
    request: GenerationRequest = EchoRequestSchema().load(read_json_object())
    return request


def _conversation(data: dict[str, Any]) -> tuple[Message, ...]:
    words = data.get("message", data.get("prompt", ""))
    history = data.get("history")
    return (*(() if history is None else history), Message("user", words))


class _Tokens:
    """The events of `/api/ai-echo/stream`; see `app.sse.StreamFormat`."""

    def piece(self, text: str) -> str:
        return sse.event({"token": text})

    def end(self, completion: Completion) -> str:
        return sse.event({"done": True, **EchoResponseSchema().dump(completion)})

    def failure(self, error: Exception) -> str:
        return sse.event({"error": errors.response_for(error).get_json()["detail"]})
