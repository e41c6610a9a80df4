"""Kinds of values that only OpenAI's API has."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields

from app.schemas import MOST_STOP_TEXTS, StopTexts, check_text
from serving.types import MOST_LOGPROBS

_LEAST_LOGPROB = -9999.0
"""Stands for all below it: JSON has no infinity."""


class Neutral(fields.Raw):
    """A field that cannot be honoured: accepted, and then ignored, where it asks for nothing."""

    def __init__(self, *neutral: Any, why: str) -> None:
        """Accept null and the `neutral` values; `why` says what to do about any other."""
        super().__init__(allow_none=True, load_only=True)
        self.neutral, self.why = neutral, why

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> None:
        # false and 0, or true and 1, are equal to Python but do not mean the same
        if not any(type(value) is type(known) and value == known for known in self.neutral):
            raise ValidationError(self.why)


class Content(fields.Field[str]):
    """The words of a message: text, or a list of parts of text as chat pages send it."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if isinstance(value, list):
            value = "\n".join(_read_part(part, index) for index, part in enumerate(value))
        if not isinstance(value, str):
            raise ValidationError('Must be text, or a list of parts {"type": "text", "text": …}.')
        check_text(value)
        return value


class Stop(StopTexts):
    """Texts that end the answer; empty ones, which chat pages send for none, are left out."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list) and len(texts) <= MOST_STOP_TEXTS:
            texts = [text for text in texts if text != ""]
        return super()._deserialize(texts, *args, **kwargs)


class NumAlternatives(fields.Field[int | None]):
    """How many of the likeliest tokens to name beside each token; false, as null, for no report."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int | None:
        if value is False:
            return None
        if type(value) is not int or not 0 <= value <= MOST_LOGPROBS:
            raise ValidationError(f"Must be a whole number from 0 to {MOST_LOGPROBS}.")
        return value


class Logprob(fields.Float):
    """A log-probability, of what is all but impossible too."""

    def _serialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        found = None if value is None else max(value, _LEAST_LOGPROB)
        return super()._serialize(found, *args, **kwargs)


class Prompt(fields.Field[str]):
    """A prompt: text, or a list of one."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        prompts = [value] if isinstance(value, str) else value
        if not isinstance(prompts, list) or any(not isinstance(text, str) for text in prompts):
            raise ValidationError("Must be text; token ids are not accepted.")
        if len(prompts) != 1:
            raise ValidationError(f"Must be one prompt, not {len(prompts)}: send one at a time.")
        return str(prompts[0])


def _read_part(part: Any, index: int) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        raise ValidationError(f"Part {index} is no text; this model reads nothing else.")
    if not isinstance(part.get("text"), str):
        raise ValidationError(f"Part {index} has no text.")
    return str(part["text"])
