"""What evaluation harnesses ask for: the probability of every token, and the prompt repeated.

Log-probabilities are the model's own, whatever temperature and top_p made of them; see
`serving.types.TokenLogprob`. They come with whole answers only.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema
from marshmallow.validate import Range

from app.schemas import Flag, WholeNumber
from app.v1.fields import Logprob, NumAlternatives
from serving.types import MOST_LOGPROBS, Completion, TokenLogprob

_NO_STREAM = (
    "Cannot be sent with 'stream': probabilities come with a whole answer only. "
    "Leave 'logprobs' or 'stream' out."
)


class ChatScoreSchema(Schema):
    """The fields of `/v1/chat/completions` that ask for scores."""

    logprobs = Flag(load_default=None, allow_none=True)
    top_logprobs = WholeNumber(
        load_default=None,
        allow_none=True,
        validate=Range(0, MOST_LOGPROBS, error=f"Must be from 0 to {MOST_LOGPROBS}."),
    )

    @validates_schema
    def check_scores(self, data: Mapping[str, Any], **_: Any) -> None:
        """Refuse what would have to be left out of the answer."""
        wrong: dict[str, list[str]] = {}
        if data["logprobs"] and data["stream"]:
            wrong["logprobs"] = [_NO_STREAM]
        if data["top_logprobs"] and not data["logprobs"]:
            wrong["top_logprobs"] = ["Needs 'logprobs' to be true."]
        if wrong:
            raise ValidationError(wrong)


class CompletionScoreSchema(Schema):
    """The fields of `/v1/completions` that ask for scores."""

    logprobs = NumAlternatives(load_default=None, allow_none=True)
    echo = Flag(load_default=None, allow_none=True)

    @validates_schema
    def check_scores(self, data: Mapping[str, Any], **_: Any) -> None:
        """Refuse what would have to be left out of the answer, or would leave nothing of it."""
        wrong: dict[str, list[str]] = {}
        if data["logprobs"] is not None and data["stream"]:
            wrong["logprobs"] = [_NO_STREAM]
        if data.get("max_tokens") == 0 and not (data["echo"] and data["logprobs"] is not None):
            wrong["max_tokens"] = ["Must be 1 or more; 0 only together with 'echo' and 'logprobs'."]
        if wrong:
            raise ValidationError(wrong)


class AlternativeSchema(Schema):
    """A token that was likely in some place."""

    token = fields.String(attribute="text")
    logprob = Logprob()
    bytes = fields.List(fields.Integer(), attribute="raw")


class TokenScoreSchema(AlternativeSchema):
    """A token of an answer."""

    top_logprobs = fields.List(fields.Nested(AlternativeSchema), attribute="top")


class ChatScoresSchema(Schema):
    """The tokens of an answer to a conversation; `logprobs` of a `Completion` is its content."""

    content = fields.List(fields.Nested(TokenScoreSchema), attribute="logprobs")
    refusal = fields.Constant(None)


class CompletionScoresSchema(Schema):
    """The tokens of a text; every list has a line for each of them."""

    tokens = fields.List(fields.String())
    token_logprobs = fields.List(Logprob(allow_none=True))
    top_logprobs = fields.List(fields.Dict(fields.String(), Logprob(), allow_none=True))
    text_offset = fields.List(fields.Integer())


@dataclass(frozen=True)
class TextScores:
    """Tokens of a text, side by side as `/v1/completions` reports them."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]
    """Characters of the text in front of each token."""


def score_text(completion: Completion, echoed: str) -> TextScores:
    """The scores of an answer, those of the words `echoed` in front of it included."""
    found = [*completion.prompt_logprobs, *completion.logprobs]
    offsets = [
        *_offsets(completion.prompt_logprobs, echoed),
        *(len(echoed) + place for place in _offsets(completion.logprobs, completion.text)),
    ]
    scores = TextScores(
        tokens=[token.text for token in found],
        token_logprobs=[token.logprob for token in found],
        top_logprobs=[_alternatives(token) for token in found],
        text_offset=offsets,
    )
    if completion.prompt_logprobs:  # nothing of the caller's stands before the first token
        scores.token_logprobs[0] = scores.top_logprobs[0] = None
    return scores


def _alternatives(token: TokenLogprob) -> dict[str, float]:
    """The likeliest tokens and the token itself; of those that read alike, the likeliest."""
    named: dict[str, float] = {}
    for each in (*token.top, token):
        named.setdefault(each.text, each.logprob)
    return named


def _offsets(tokens: Sequence[TokenLogprob], text: str) -> list[int]:
    """Where each token begins in the text that all of them make up, white space around it aside.

    A part of a character begins where the character does; what was cut off, at the end.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    ends = [0]
    joined = ""
    for token in tokens:
        joined += decoder.decode(token.raw)
        ends.append(len(joined))
    dropped = _num_leading_spaces(joined) - _num_leading_spaces(text)
    return [min(max(0, place - dropped), len(text)) for place in ends[:-1]]


def _num_leading_spaces(text: str) -> int:
    return len(text) - len(text.lstrip())
