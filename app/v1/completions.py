"""`POST /v1/completions`: a prompt, one answer through the same chat prompt as everywhere.

The words are answered, not continued: the model was trained to answer in a style.
"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from marshmallow import Schema, fields

from app import sse
from app.body import read_json_object
from app.disconnect import wait_for
from app.v1.answers import Chunks, Json, UsageSchema, begin
from app.v1.schemas import CompletionRequestSchema
from app.v1.scores import CompletionScoresSchema, score_text

blueprint = Blueprint("completions", __name__)


class CompletionChoiceSchema(Schema):
    """The only answer to a request."""

    index = fields.Constant(0)
    text = fields.String()
    logprobs = fields.Nested(CompletionScoresSchema, allow_none=True)
    finish_reason = fields.String()


class CompletionSchema(Schema):
    """Body of a successful `POST /v1/completions` without a stream."""

    id = fields.String()
    object = fields.Constant("text_completion")
    created = fields.Integer()
    model = fields.String()
    choices = fields.List(fields.Nested(CompletionChoiceSchema))
    usage = fields.Nested(UsageSchema)


@blueprint.post("/completions")
def create_completion() -> Response:
    """Answer the prompt of the body, whole or as a stream of chunks."""
    asked = CompletionRequestSchema().load(read_json_object())
    answer, handle = begin(asked, id_prefix="cmpl", words_field="prompt")
    if asked.streams:
        chunks = Chunks(answer, "text_completion", _write, includes_usage=asked.includes_usage)
        return sse.respond(
            handle, chunks, opening=chunks.piece(asked.echoed) if asked.echoed else sse.PING
        )
    completion = wait_for(handle)
    asks_for_scores = asked.generation.logprobs is not None
    choice = {
        "text": asked.echoed + completion.text,
        "logprobs": score_text(completion, asked.echoed) if asks_for_scores else None,
        "finish_reason": completion.finish_reason,
    }
    whole = {**vars(answer), "choices": [choice], "usage": completion}
    return jsonify(CompletionSchema().dump(whole))


def _write(text: str) -> Json:
    return {"text": text}
