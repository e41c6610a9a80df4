"""What evaluation harnesses ask for: the prompt repeated, and the probability of every token.

No engine reports probabilities yet, so these fields are refused unless they ask for nothing. This
is the one place to change once it does.
"""

from __future__ import annotations

from marshmallow import Schema

from app.v1.fields import Neutral

_WHY = "This server cannot report the probabilities of tokens yet. Leave the field out."


class ChatScoreSchema(Schema):
    """The fields of `/v1/chat/completions` that ask for scores."""

    logprobs = Neutral(False, why=_WHY)
    top_logprobs = Neutral(0, why=_WHY)


class CompletionScoreSchema(Schema):
    """The fields of `/v1/completions` that ask for scores; there, 0 asks for some as well."""

    logprobs = Neutral(False, why=_WHY)
    echo = Neutral(
        False,
        why="This server cannot repeat the prompt with its probabilities yet. Leave the field out.",
    )
