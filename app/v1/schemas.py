"""What `POST` under `/v1` takes: OpenAI's fields, as far as one model on one machine has them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validates
from marshmallow.validate import Range

from adapters.prompts import Message
from app.schemas import (
    MOST_MESSAGES,
    TEMPERATURES,
    BoundedList,
    Flag,
    Number,
    WholeNumber,
    check_conversation,
    check_question,
    style_name,
)
from app.v1.fields import Content, Neutral, Prompt, Stop
from app.v1.scores import ChatScoreSchema, CompletionScoreSchema
from serving.types import GenerationRequest

_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
_SMALLEST_TOP_P = 1e-6
"""Stands for 0, which OpenAI allows: nothing but the likeliest token."""
_NUM_SEEDS = 2**63
_NO_TOOLS = "this model calls no tools"


@dataclass(frozen=True)
class AnswerRequest:
    """A request of OpenAI's API, in this server's words."""

    generation: GenerationRequest
    """Its style is that of the field `style`; the model id may name one too."""
    model: str | None
    """None for the adapter, whatever it is called."""
    streams: bool
    includes_usage: bool
    """A stream ends with a chunk that counts tokens."""
    echoed: str = ""
    """The answer begins with these words of the caller."""


class ChatMessageSchema(Schema):
    """One turn of a conversation."""

    class Meta:
        """Names of speakers and the like mean nothing here."""

        unknown = EXCLUDE

    role = fields.String(required=True, error_messages={"invalid": "Must be text."})
    content = Content(load_default=None, allow_none=True)

    @validates("role")
    def check_role(self, value: str, data_key: str) -> None:
        """Tell tools apart from typing errors."""
        if value in {"tool", "function"}:
            raise ValidationError(f"Leave out messages of a {value}: {_NO_TOOLS}.")
        if value not in _ROLES:
            raise ValidationError(f"Must be one of: {', '.join(_ROLES)}.")

    @validates("content")
    def check_content(self, value: str | None, data_key: str) -> None:
        """Only messages that call tools have no content."""
        if value is None:
            raise ValidationError(f"Must be text: {_NO_TOOLS}.")

    @post_load
    def make_message(self, data: dict[str, Any], **_: Any) -> Message:
        """A message in one of the roles that chat templates know."""
        return Message(_ROLES[data["role"]], data["content"])


class StreamOptionsSchema(Schema):
    """What a stream holds besides text."""

    class Meta:
        """Other options mean nothing here."""

        unknown = EXCLUDE

    include_usage = Flag(allow_none=True, load_default=False)


class AnswerRequestSchema(Schema):
    """What both kinds of requests have in common.

    Chat pages send many a field that means nothing here, penalties for one: all are ignored. Only
    what would promise something that the answer then lacks is refused.
    """

    class Meta:
        """See above."""

        unknown = EXCLUDE

    model = fields.String(
        load_default=None, allow_none=True, error_messages={"invalid": "Must be text: a model id."}
    )
    style = style_name()
    temperature = Number(allow_none=True, validate=TEMPERATURES)
    top_p = Number(allow_none=True, validate=Range(0, 1, error="Must be from 0 to 1."))
    max_tokens = WholeNumber(allow_none=True, validate=Range(1, error="Must be 1 or more."))
    seed = WholeNumber(
        allow_none=True,
        validate=Range(-_NUM_SEEDS, _NUM_SEEDS - 1, error="Must be -2^63 to 2^63 - 1."),
    )
    stop = Stop(load_default=(), allow_none=True)
    stream = Flag(load_default=False, allow_none=True)
    stream_options = fields.Nested(StreamOptionsSchema, load_default=None, allow_none=True)
    n = Neutral(1, why="Must be 1: this server gives one answer to a request.")
    logit_bias = Neutral({}, [], why="Leave it out: this server cannot favour single tokens.")

    def make(self, messages: tuple[Message, ...], data: dict[str, Any]) -> AnswerRequest:
        """A frozen request of these messages and the fields in common."""
        top_p, seed, stop = data.get("top_p"), data.get("seed"), data["stop"]
        most, options = data.get("max_completion_tokens"), data["stream_options"]
        generation = GenerationRequest(
            messages=messages,
            style=data["style"],
            temperature=data.get("temperature"),
            top_p=None if top_p is None else max(top_p, _SMALLEST_TOP_P),
            max_new_tokens=data.get("max_tokens") if most is None else most,
            seed=None if seed is None else seed % _NUM_SEEDS,  # OpenAI has negative ones
            stop=() if stop is None else stop,
        )
        includes_usage = options is not None and options["include_usage"] is True
        return AnswerRequest(generation, data["model"], data["stream"] is True, includes_usage)


class ChatRequestSchema(AnswerRequestSchema, ChatScoreSchema):
    """Body of `POST /v1/chat/completions`."""

    messages = BoundedList(
        fields.Nested(ChatMessageSchema),
        most=MOST_MESSAGES,
        required=True,
        validate=check_conversation,
    )
    # the newer name of max_tokens; it wins where both are sent
    max_completion_tokens = WholeNumber(
        allow_none=True, validate=Range(1, error="Must be 1 or more.")
    )
    response_format = Neutral(
        {"type": "text"}, why="Must be text: this server cannot hold the model to a format."
    )
    tool_choice = Neutral("auto", "none", why=f"Leave it out: {_NO_TOOLS}.")
    function_call = Neutral("auto", "none", why=f"Leave it out: {_NO_TOOLS}.")
    modalities = Neutral(["text"], [], why='Must be ["text"]: this model gives nothing else.')

    @post_load
    def make_request(self, data: dict[str, Any], **_: Any) -> AnswerRequest:
        """A frozen request; empty system messages, which chat pages send, are left out."""
        told = (message for message in data["messages"] if _says_something(message))
        asked = self.make(tuple(told), data)
        if not data["logprobs"]:
            return asked
        top = data["top_logprobs"]
        return _with_scores(asked, logprobs=0 if top is None else top)


class CompletionRequestSchema(AnswerRequestSchema, CompletionScoreSchema):
    """Body of `POST /v1/completions`."""

    prompt = Prompt(required=True, validate=check_question)
    # 0 scores the prompt and generates nothing
    max_tokens = WholeNumber(allow_none=True, validate=Range(0, error="Must be 0 or more."))
    best_of = Neutral(1, why="Must be 1: this server gives one answer to a request.")
    suffix = Neutral("", why="Leave it out: this model cannot write towards a given end.")

    @post_load
    def make_request(self, data: dict[str, Any], **_: Any) -> AnswerRequest:
        """A frozen request: the prompt is the only message."""
        asked = self.make((Message("user", data["prompt"]),), data)
        if data["echo"]:
            asked = dataclasses.replace(asked, echoed=data["prompt"])
        if data["logprobs"] is None:
            return asked
        return _with_scores(asked, logprobs=data["logprobs"], prompt_logprobs=data["echo"] is True)


def _with_scores(asked: AnswerRequest, **fields: Any) -> AnswerRequest:
    return dataclasses.replace(asked, generation=dataclasses.replace(asked.generation, **fields))


def _says_something(message: Message) -> bool:
    return message.role != "system" or bool(message.content.strip())
