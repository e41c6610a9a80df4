"""The shapes of JSON that clients send and receive."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validates_schema
from marshmallow.validate import OneOf, Range

from adapters.prompts import Message
from app.context import get_config
from serving.types import GenerationRequest

MOST_MESSAGES = 64
MOST_STOP_TEXTS = 4
MOST_STOP_CHARACTERS = 64
WORDS_PATTERN = r"[^\s\x1c-\x1f\x85\ufeff]"
"""Finds what is no space to JavaScript, whose patterns the document has, and none to Python."""
_ROLES = ("system", "user", "assistant")
TEXT_MESSAGES: dict[str, Any] = {
    "required": "Missing.",
    "null": "Must be text, not null.",
    "invalid": "Must be text.",
}


class Number(fields.Float):
    """A JSON number; marshmallow's Float takes the text "1" for one as well."""

    def __init__(self, **kwargs: Any) -> None:
        """Name the fix in the messages."""
        messages: dict[str, Any] = {
            "invalid": "Must be a number.",
            "special": "Must be a finite number.",
        }
        super().__init__(error_messages=messages, **kwargs)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> float:
        if isinstance(value, bool | str):
            raise self.make_error("invalid")
        number: float = super()._deserialize(value, *args, **kwargs)
        return number


class WholeNumber(fields.Integer):
    """A JSON number without a fraction: 5.0 is one, as JSON Schema's integers have it."""

    def __init__(self, **kwargs: Any) -> None:
        """Refuse 5.5, "5" and true."""
        messages: dict[str, Any] = {"invalid": "Must be a whole number.", "too_large": "Too large."}
        super().__init__(strict=True, error_messages=messages, **kwargs)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        is_whole = isinstance(value, float) and value.is_integer()
        return super()._deserialize(int(value) if is_whole else value, *args, **kwargs)


class Flag(fields.Boolean):
    """JSON's true or false; marshmallow's Boolean takes "on" and 1 for true as well."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("Must be true or false.")
        return value


class BoundedList(fields.List[Any]):
    """A list whose length is checked before anything in it is."""

    def __init__(self, inner: fields.Field[Any], *, most: int, **kwargs: Any) -> None:
        """A list of at most that many."""
        messages: dict[str, Any] = {
            "null": "Must be a list, not null.",
            "invalid": "Must be a list.",
        }
        super().__init__(inner, error_messages=messages, **kwargs)
        self.most = most

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list) and len(value) > self.most:
            raise ValidationError(f"Has {len(value)} entries; at most {self.most} are accepted.")
        return super()._deserialize(value, *args, **kwargs)


class StopTexts(fields.Field[tuple[str, ...]]):
    """One text or a list of a few; a tuple either way."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValidationError("Must be a text or a list of texts.")
        if len(texts) > MOST_STOP_TEXTS:
            raise ValidationError(
                f"Has {len(texts)} texts; at most {MOST_STOP_TEXTS} are accepted."
            )
        for text in texts:
            if not 1 <= len(text) <= MOST_STOP_CHARACTERS:
                raise ValidationError(
                    f"A text has {len(text)} characters; 1 to {MOST_STOP_CHARACTERS} are accepted."
                )
            check_text(text)
        return tuple(texts)


def check_text(text: str) -> None:
    """Refuse what only looks like text: no tokenizer takes it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValidationError(
            f"Character {error.start} is half of a surrogate pair, which is no text."
        ) from error


def check_question(text: str) -> None:
    """Refuse a user's words that ask nothing, are no text or are too long."""
    if not re.search(WORDS_PATTERN, text):
        raise ValidationError("Must not be empty.")
    check_length(len(text))
    check_text(text)


def check_length(num_characters: int) -> None:
    """Refuse words that are too long to be worth tokenizing."""
    most = get_config().max_prompt_characters
    if num_characters > most:
        raise ValidationError(f"Has {num_characters} characters; at most {most} are accepted.")


def check_conversation(messages: Sequence[Message]) -> None:
    """Refuse messages that do not end with a question of the user, or are too long together."""
    if not messages:
        raise ValidationError("Must not be empty.")
    if messages[-1].role != "user":
        raise ValidationError("The last message must be the user's.")
    if not re.search(WORDS_PATTERN, messages[-1].content):
        raise ValidationError("The last message must not be empty.")
    check_length(sum(len(message.content) for message in messages))


class MessageSchema(Schema):
    """One turn of a conversation."""

    class Meta:
        """Unknown fields are refused: a typo must not be ignored."""

        unknown = RAISE

    error_messages = {"unknown": "Unknown field. Known fields: role, content."}  # noqa: RUF012

    role = fields.String(
        required=True,
        validate=OneOf(_ROLES, error=f"Must be one of: {', '.join(_ROLES)}."),
        error_messages=TEXT_MESSAGES,
    )
    content = fields.String(required=True, validate=check_text, error_messages=TEXT_MESSAGES)

    @post_load
    def make_message(self, data: dict[str, Any], **_: Any) -> Message:
        """A frozen message."""
        return Message(**data)


@dataclass(frozen=True)
class Asked:
    """What a client asked for: a request, and how to send the answer."""

    request: GenerationRequest
    words_field: str
    """Where the client put its words: `prompt` or `messages`."""
    stream: bool


TEMPERATURES = Range(0, 2, error="Must be from 0 (always the likeliest) to 2.")


def style_name() -> fields.String:
    """A field for the name of a style; none stands for the adapter's default one."""
    told: dict[str, Any] = {"invalid": "Must be text: the name of a style."}
    return fields.String(load_default=None, allow_none=True, error_messages=told)


class GenerateRequestSchema(Schema):
    """Body of `POST /generate`."""

    class Meta:
        """Unknown fields are refused: a typo must not be ignored."""

        unknown = RAISE

    prompt = fields.String(validate=check_question, error_messages=TEXT_MESSAGES)
    messages = BoundedList(
        fields.Nested(MessageSchema), most=MOST_MESSAGES, validate=check_conversation
    )
    style = style_name()
    temperature = Number(allow_none=True, validate=TEMPERATURES)
    top_p = Number(
        allow_none=True,
        validate=Range(0, 1, min_inclusive=False, error="Must be above 0 and at most 1."),
    )
    # bounded, as it becomes an integer of fixed size on the device
    top_k = WholeNumber(
        allow_none=True, validate=Range(0, 2**31 - 1, error="Must be 0 (no limit) to 2^31 - 1.")
    )
    min_new_tokens = WholeNumber(allow_none=True, validate=Range(0, error="Must be 0 or more."))
    max_new_tokens = WholeNumber(allow_none=True, validate=Range(1, error="Must be 1 or more."))
    seed = WholeNumber(
        allow_none=True, validate=Range(0, 2**63 - 1, error="Must be 0 to 2^63 - 1.")
    )
    stop = StopTexts(allow_none=True)
    stream = Flag(allow_none=True)

    def __init__(self, **kwargs: Any) -> None:
        """Name the known fields in the message about unknown ones."""
        super().__init__(**kwargs)
        self.error_messages["unknown"] = f"Unknown field. Known fields: {', '.join(self.fields)}."

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_words(self, _: dict[str, Any], body: dict[str, Any], **__: Any) -> None:
        """Refuse a body without words, and one with words in two places."""
        if "prompt" in body and "messages" in body:
            raise ValidationError("Send either 'prompt' or 'messages', not both.", "messages")
        if "prompt" not in body and "messages" not in body:
            raise ValidationError(
                'Missing. Send the text to answer, e.g. {"prompt": "What is DNS?"}, '
                "or a conversation as 'messages'.",
                "prompt",
            )

    @validates_schema
    def check_lengths(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse an answer that would have to be longer than it may."""
        least, most = data.get("min_new_tokens"), data.get("max_new_tokens")
        if least is not None and most is not None and least > most:
            raise ValidationError(f"Is over max_new_tokens ({most}).", "min_new_tokens")

    @post_load
    def make_asked(self, data: dict[str, Any], **_: Any) -> Asked:
        """A frozen request: below this line there are no dictionaries."""
        words_field = "prompt" if "prompt" in data else "messages"
        words = data.pop(words_field)
        messages = (Message("user", words),) if words_field == "prompt" else tuple(words)
        stream, stop = data.pop("stream", None), data.pop("stop", None)
        request = GenerationRequest(messages=messages, stop=() if stop is None else stop, **data)
        return Asked(request, words_field, stream is True)


class GenerateResponseSchema(Schema):
    """Body of a successful `POST /generate`, and of the last event of a stream."""

    response = fields.String(attribute="text")
    style = fields.String()
    tokens = fields.Integer(attribute="num_tokens")
    prompt_tokens = fields.Integer(attribute="num_prompt_tokens")
    latency = fields.Function(lambda completion: round(completion.seconds, 3))
    finish_reason = fields.String()


class PresetSchema(Schema):
    """Generation settings of a style."""

    temperature = fields.Float()
    top_p = fields.Float()
    min_new_tokens = fields.Integer()
    max_new_tokens = fields.Integer()
    do_sample = fields.Boolean()


class StyleSchema(Schema):
    """A style that requests may name."""

    name = fields.String()
    description = fields.String()
    preset = fields.Nested(PresetSchema)


class HealthSchema(Schema):
    """Body of `GET /health`."""

    status = fields.String(attribute="state")
    detail = fields.String()
    model = fields.String()
    adapter = fields.String()
    adapter_version = fields.String()
    quantization = fields.String()
    device = fields.String()
    gpu_memory = fields.Function(lambda status: round(status.gpu_memory_gb, 3))
    running = fields.Integer(attribute="num_running")
    waiting = fields.Integer(attribute="num_waiting")
    queue_size = fields.Integer()
    default_style = fields.String()
    styles = fields.List(fields.Nested(StyleSchema))
