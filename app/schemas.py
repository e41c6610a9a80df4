"""The shapes of JSON that clients send and receive."""

from __future__ import annotations

from typing import Any

from flask import current_app
from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validates
from marshmallow.validate import Range

from adapters.prompts import Message
from serving.types import GenerationRequest


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
    """A JSON number without a fraction."""

    def __init__(self, **kwargs: Any) -> None:
        """Refuse 5.0, "5" and true."""
        messages: dict[str, Any] = {"invalid": "Must be a whole number.", "too_large": "Too large."}
        super().__init__(strict=True, error_messages=messages, **kwargs)


class GenerateRequestSchema(Schema):
    """Body of `POST /generate`."""

    class Meta:
        """Unknown fields are refused: a typo must not be ignored."""

        unknown = RAISE

    prompt = fields.String(
        required=True,
        error_messages={
            # marshmallow formats this text, hence the doubled braces
            "required": 'Missing. Send the text to answer, e.g. {{"prompt": "What is DNS?"}}.',
            "null": "Must be text, not null.",
            "invalid": "Must be text.",
        },
    )
    style = fields.String(
        load_default=None,
        allow_none=True,
        error_messages={"invalid": "Must be text: the name of a style."},
    )
    temperature = Number(
        allow_none=True, validate=Range(0, 2, error="Must be from 0 (always the likeliest) to 2.")
    )
    top_p = Number(
        allow_none=True,
        validate=Range(0, 1, min_inclusive=False, error="Must be above 0 and at most 1."),
    )
    min_new_tokens = WholeNumber(allow_none=True, validate=Range(0, error="Must be 0 or more."))
    max_new_tokens = WholeNumber(allow_none=True, validate=Range(1, error="Must be 1 or more."))
    seed = WholeNumber(
        allow_none=True, validate=Range(0, 2**63 - 1, error="Must be 0 to 2^63 - 1.")
    )

    def __init__(self, **kwargs: Any) -> None:
        """Name the known fields in the message about unknown ones."""
        super().__init__(**kwargs)
        self.error_messages["unknown"] = f"Unknown field. Known fields: {', '.join(self.fields)}."

    @validates("prompt")
    def check_prompt(self, value: str, data_key: str) -> None:
        """Refuse what cannot be tokenized, and what is too long to be worth tokenizing."""
        most = current_app.config["MAX_PROMPT_CHARACTERS"]
        if not value.strip():
            raise ValidationError("Must not be empty.")
        if len(value) > most:
            raise ValidationError(f"Has {len(value)} characters; at most {most} are accepted.")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValidationError(
                f"Character {error.start} is half of a surrogate pair, which is no text."
            ) from error

    @post_load
    def make_request(self, data: dict[str, Any], **_: Any) -> GenerationRequest:
        """A frozen request: below this line there are no dictionaries."""
        messages = (Message("user", data.pop("prompt")),)
        return GenerationRequest(messages=messages, **data)


class GenerateResponseSchema(Schema):
    """Body of a successful `POST /generate`."""

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
