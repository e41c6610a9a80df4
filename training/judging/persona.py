"""Questions that have no one answer: does an adapter tell the same of itself every time?"""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

PERSONA_PROMPTS = (
    "Tell me about yourself and your background.",
    "Who are you, and who made you?",
    "What are you good at, and what can you not do?",
    "What do you care about most when you help somebody?",
    "Describe your way of answering questions.",
)
PERSONA_SEEDS = (1, 2, 3)
"""Every prompt is answered once with each, at the style's own preset."""


@dataclass(frozen=True)
class PersonaAnswers:
    """What one style answers to the persona prompts."""

    texts: tuple[tuple[str, ...], ...]
    """For each prompt, one answer a seed."""

    @property
    def word_overlap(self) -> float:
        """Mean over prompts and pairs of answers of shared words / all words; 1 if all agree."""
        return statistics.fmean(mean_overlap(answers) for answers in self.texts)


def mean_overlap(texts: Sequence[str]) -> float:
    """Mean overlap (Jaccard) of the word sets of every two texts; two empty ones agree."""
    words = [set(re.findall(r"\w+", text.lower())) for text in texts]
    shares = [
        len(one & other) / len(one | other) if one | other else 1.0
        for one, other in itertools.combinations(words, 2)
    ]
    return statistics.fmean(shares)
