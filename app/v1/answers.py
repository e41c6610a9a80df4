"""Begins answers under `/v1`, and writes them as streams of chunks."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, fields

from app import errors, sse
from app.context import get_engine
from app.generate import submit
from app.v1.models import find_style, model_id
from app.v1.schemas import AnswerRequest
from serving.errors import InvalidRequestError
from serving.types import Completion, Handle

DONE = "data: [DONE]\n\n"
"""Ends every stream; OpenAI's mark is no JSON."""

Json = Mapping[str, Any]


class UsageSchema(Schema):
    """Tokens that a request took."""

    prompt_tokens = fields.Integer(attribute="num_prompt_tokens")
    completion_tokens = fields.Integer(attribute="num_tokens")
    total_tokens = fields.Function(lambda done: done.num_prompt_tokens + done.num_tokens)


@dataclass(frozen=True)
class Answer:
    """What identifies an answer, in the whole of it and in every chunk."""

    id: str
    created: int
    """Seconds since 1970."""
    model: str
    """The id that names the adapter and the style, wherever the request named them."""


def begin(asked: AnswerRequest, *, id_prefix: str, words_field: str) -> tuple[Answer, Handle]:
    """Begin to answer; a refusal names the fields as OpenAI does.

    Raises:
        UnknownModelError: there is no such model.
        ValidationError: the model and the field `style` name two styles.
        ServingError: the engine refuses the request.
    """
    status = get_engine().status()
    style = find_style(asked.model, asked.generation.style, status)
    generation = dataclasses.replace(asked.generation, style=style)
    try:
        handle = submit(generation, words_field=words_field, streams=asked.streams)
    except InvalidRequestError as error:
        if error.field != "max_new_tokens":
            raise
        raise InvalidRequestError("max_tokens", str(error)) from error
    answer_id = f"{id_prefix}-{uuid.uuid4().hex}"
    return Answer(answer_id, int(time.time()), model_id(style, status)), handle


class Chunks:
    """An answer as a stream of chunks; see `app.sse.StreamFormat`.

    `write` puts a piece of text, empty at the end, into the only choice of a chunk.
    """

    def __init__(
        self, answer: Answer, kind: str, write: Callable[[str], Json], *, includes_usage: bool
    ) -> None:
        """Prepare what all chunks have in common."""
        self._head = {
            "id": answer.id,
            "object": kind,
            "created": answer.created,
            "model": answer.model,
        }
        self._write, self._includes_usage = write, includes_usage

    def chunk(self, content: Json, finish_reason: str | None = None) -> str:
        """The event of one chunk with this content of its choice."""
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
        return self._event([choice], None)

    def piece(self, text: str) -> str:
        """A chunk of text."""
        return self.chunk(self._write(text))

    def end(self, completion: Completion) -> str:
        """A chunk that says why the answer ended, one that counts tokens if wanted, the mark."""
        events = self.chunk(self._write(""), completion.finish_reason)
        if self._includes_usage:
            events += self._event([], UsageSchema().dump(completion))
        return events + DONE

    def failure(self, error: Exception) -> str:
        """An error object, at which client libraries raise, and the mark."""
        return sse.event(errors.response_for(error).get_json()) + DONE

    def _event(self, choices: list[Json], usage: Json | None) -> str:
        counted = {"usage": usage} if self._includes_usage else {}
        return sse.event({**self._head, "choices": choices, **counted})
