"""`POST /generate`: one question or conversation, one answer in a style."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from app import errors, logs, sse
from app.body import read_json_object
from app.context import get_engine
from app.disconnect import wait_for
from app.schemas import GenerateRequestSchema, GenerateResponseSchema
from serving.errors import InvalidRequestError
from serving.types import Completion, GenerationRequest, Handle

blueprint = Blueprint("generate", __name__)


@blueprint.post("/generate")
def generate() -> Response:
    """Answer the prompt or the messages of the body in the style it names."""
    asked = GenerateRequestSchema().load(read_json_object())
    handle = submit(asked.request, words_field=asked.words_field, streams=asked.stream)
    if asked.stream:
        return sse.respond(handle, _Events())
    return jsonify(GenerateResponseSchema().dump(wait_for(handle)))


def submit(request: GenerationRequest, *, words_field: str, streams: bool) -> Handle:
    """Begin to answer; see `serving.types.Engine`.

    An engine speaks of the prompt, a client has sent its words in the field `words_field`: that is
    the one which a refusal names.
    """
    try:
        handle = get_engine().submit(request, streams=streams)
    except InvalidRequestError as error:
        if error.field != "prompt":
            raise
        raise InvalidRequestError(words_field, str(error)) from error
    logs.note_generation(request)
    return handle


class _Events:
    """The events of `/generate`; see `app.sse.StreamFormat`."""

    def piece(self, text: str) -> str:
        return sse.event({"delta": text})

    def end(self, completion: Completion) -> str:
        return sse.event(GenerateResponseSchema().dump(completion), "done")

    def failure(self, error: Exception) -> str:
        return sse.event(errors.response_for(error).get_json(), "error")
