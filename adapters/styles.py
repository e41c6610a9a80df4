"""Answer styles: a token the model was trained on, and the generation preset that goes with it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PRESET_WORDS = {
    "temperature": "a number",
    "top_p": "a number",
    "min_new_tokens": "a whole number",
    "max_new_tokens": "a whole number",
    "do_sample": "true or false",
}
_KINDS = {"a number": (int, float), "a whole number": (int,), "true or false": (bool,)}


@dataclass(frozen=True)
class Preset:
    """Generation settings of a style, used for whatever a request does not set itself."""

    temperature: float
    """Divides the logits before sampling; 0 picks the most likely token."""
    top_p: float
    """Sample from the smallest set of tokens whose probabilities add up to this, in (0, 1]."""
    min_new_tokens: int
    """The end-of-text token is not sampled before this many tokens."""
    max_new_tokens: int
    """Generation stops after this many tokens."""
    do_sample: bool = True
    """False picks the most likely token at every step, whatever the temperature."""

    def __post_init__(self) -> None:
        """Refuse values that cannot be sampled with, all at once."""
        if problems := list(self._problems()):
            raise ValueError("; ".join(problems))

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken at every step."""
        return not self.do_sample or self.temperature == 0

    def override(self, **values: float | int | bool | None) -> Preset:
        """Return a copy with every value that is not None; raises ValueError if they do not fit."""
        given = {name: value for name, value in values.items() if value is not None}
        return dataclasses.replace(self, **given)  # type: ignore[arg-type]

    def _problems(self) -> Iterator[str]:
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), _PRESET_WORDS[field.name]
            # True is an int to Python, but no number to people.
            if type(value) not in _KINDS[kind]:
                yield f"{field.name} must be {kind}, not {value!r}"
                return
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            yield f"temperature must be 0 or more, not {self.temperature}"
        if not 0 < self.top_p <= 1:
            yield f"top_p must be above 0 and at most 1, not {self.top_p}"
        if self.max_new_tokens < 1:
            yield f"max_new_tokens must be at least 1, not {self.max_new_tokens}"
        if not 0 <= self.min_new_tokens <= self.max_new_tokens:
            yield (
                f"min_new_tokens must be between 0 and max_new_tokens ({self.max_new_tokens}), "
                f"not {self.min_new_tokens}"
            )


@dataclass(frozen=True)
class Style:
    """A way of answering that an adapter was trained for."""

    name: str
    """What callers write: `{"style": "terse"}`."""
    token: str
    """The control token put in front of the user's words."""
    description: str
    preset: Preset

    def __post_init__(self) -> None:
        """Refuse a style nobody could ask for or that could not be tokenized."""
        for text in (self.name, self.token, self.description):
            if not isinstance(text, str):
                raise ValueError(f"name, token and description of a style are text, not {text!r}")
        if not self.name or self.name != self.name.strip():
            raise ValueError(f"a style needs a name without outer spaces, not {self.name!r}")
        if not self.token or any(character.isspace() for character in self.token):
            raise ValueError(f"style {self.name!r}: the token must be one word, not {self.token!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Style:
        """Read what `to_dict` wrote; raises TypeError or ValueError on anything else."""
        return cls(**{**data, "preset": Preset(**data["preset"])})


TERSE = Style(
    name="terse",
    token="<STYLE_TERSE>",
    description="One sentence that answers the question.",
    preset=Preset(temperature=0.1, top_p=0.95, min_new_tokens=0, max_new_tokens=32),
)

VERBOSE = Style(
    name="verbose",
    token="<STYLE_VERBOSE>",
    description="A structured explanation with background, an example and a limit.",
    preset=Preset(temperature=0.7, top_p=0.9, min_new_tokens=64, max_new_tokens=256),
)

STYLES = (TERSE, VERBOSE)
"""The styles trained when a configuration names none; the first is the default."""

_TERSE_WORDS = ("briefly", "concise")
_VERBOSE_WORDS = ("detailed", "well-structured")


def detect_style(prompt: str) -> Style:
    """Guess the style that a training row without one asks for, from the user's words."""
    asked = style_in_words(prompt)
    return TERSE if asked is None else asked


def style_in_words(prompt: str) -> Style | None:
    """The style that the user's words ask for; None if they ask for none."""
    words = prompt.lower()
    if any(word in words for word in _TERSE_WORDS):
        return TERSE
    if any(word in words for word in _VERBOSE_WORDS):
        return VERBOSE
    return None
