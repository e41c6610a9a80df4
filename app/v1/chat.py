"""`POST /v1/chat/completions`: a conversation, one answer."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from marshmallow import Schema, fields

from app import sse
from app.body import read_json_object
from app.disconnect import wait_for
from app.v1.answers import Chunks, Json, UsageSchema, begin
from app.v1.schemas import ChatRequestSchema
from app.v1.scores import ChatScoresSchema

blueprint = Blueprint("chat", __name__)


class ChatAnswerMessageSchema(Schema):
    """The words of an answer."""

    role = fields.Constant("assistant")
    content = fields.String(attribute="text")
    refusal = fields.Constant(None)


class ChatChoiceSchema(Schema):
    """The only answer to a request."""

    index = fields.Constant(0)
    message = fields.Nested(ChatAnswerMessageSchema)
    logprobs = fields.Nested(ChatScoresSchema, allow_none=True)
    finish_reason = fields.String()


class ChatCompletionSchema(Schema):
    """Body of a successful `POST /v1/chat/completions` without a stream."""

    id = fields.String()
    object = fields.Constant("chat.completion")
    created = fields.Integer()
    model = fields.String()
    choices = fields.List(fields.Nested(ChatChoiceSchema))
    usage = fields.Nested(UsageSchema)


@blueprint.post("/chat/completions")
def create_chat_completion() -> Response:
    """Answer the messages of the body, whole or as a stream of chunks."""
    asked = ChatRequestSchema().load(read_json_object())
    answer, handle = begin(asked, id_prefix="chatcmpl", words_field="messages")
    if asked.streams:
        chunks = Chunks(
            answer, "chat.completion.chunk", _write, includes_usage=asked.includes_usage
        )
        opening = chunks.chunk({"delta": {"role": "assistant", "content": ""}})
        return sse.respond(handle, chunks, opening=opening)
    completion = wait_for(handle)
    choice = {
        "message": completion,
        "logprobs": None if asked.generation.logprobs is None else completion,
        "finish_reason": completion.finish_reason,
    }
    whole = {**vars(answer), "choices": [choice], "usage": completion}
    return jsonify(ChatCompletionSchema().dump(whole))


def _write(text: str) -> Json:
    return {"delta": {"content": text} if text else {}}
