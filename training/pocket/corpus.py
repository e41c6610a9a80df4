"""What the pocket base reads: the cards as texts, and questions answered at a middling length.

No text names a style, and no question has the wording of a held-out one.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator

from adapters.prompts import Example, Message, PromptFormat
from training.cards import Card
from training.compose import heldout_facets
from training.questions import FOLLOW_UPS, TEMPLATES, all_questions, ask, normalize

_DOUBLE_QUESTIONS = {
    "how": ("What is {phrase} and how does it work?", "Define {name} and say how it works."),
    "why": ("What is {phrase} and why does it matter?", "What is {phrase}, and what is it for?"),
    "example": ("What is {phrase}? Give an example too.", "Define {name}, with an example."),
    "limit": ("What is {phrase} and what are its limits?", "What is {phrase}, and what can go wrong?"),
}
_OPENINGS = (
    "Hi! ",
    "Hello, ",
    "Hey, ",
    "Please tell me: ",
    "Quick question: ",
    "A question: ",
    "I'm a beginner. ",
    "For my homework: ",
    "I was wondering, ",
    "OK, ",
    "So, ",
    "Sorry if this is basic. ",
)
_CLOSINGS = (" Thanks!", " Please.", " Thank you.", " I'm curious.", " I have a test tomorrow.", " :)")


def corpus_texts(cards: list[Card]) -> Iterator[str]:
    """Every sentence and wording once, for learning the tokenizer's merges."""
    for card in cards:
        for facet, texts in card.facets.items():
            # Answers weigh more than wordings, most of which differ in a word only.
            for _ in range(4):
                yield f"{texts.short} {texts.more}"
            for question in all_questions(card, facet):
                yield question
                yield question.lower()


def corpus_sha256(cards: list[Card]) -> str:
    """Identifies the cards and the ways of asking that a base was trained on."""
    rows = [[card.name, {f: vars(texts) for f, texts in card.facets.items()}] for card in cards]
    data = json.dumps([rows, TEMPLATES, FOLLOW_UPS], sort_keys=True)
    return hashlib.sha256(data.encode()).hexdigest()


class Corpus:
    """Draws pre-training examples; the same seed gives the same ones."""

    def __init__(self, cards: list[Card], prompt: PromptFormat) -> None:
        """Hold back the questions that the style data keeps for its held-out part."""
        self._cards = cards
        self._prompt = prompt
        self._heldout = heldout_facets(cards)
        self._heldout_wordings = {
            normalize(card.facets[self._heldout[card.name]].ask)
            for card in cards
            if card.name in self._heldout
        }

    def examples(self, count: int, seed: int) -> Iterator[Example]:
        """`count` examples in a mix of questions, conversations and card texts."""
        rng = random.Random(seed)
        kinds = (self._question, self._conversation, self._double_question, self._card_text)
        for kind in rng.choices(kinds, (72, 8, 6, 14), k=count):
            yield kind(rng.choice(self._cards), rng)

    def heldout_questions(self) -> list[Example]:
        """The held-out wordings with their middling answers, to measure what was learned."""
        held = [(card, self._heldout[card.name]) for card in self._cards if card.name in self._heldout]
        return [
            self._encode([Message("user", card.facets[facet].ask)], _middling(card, facet))
            for card, facet in held
        ]

    def _question(self, card: Card, rng: random.Random) -> Example:
        facet = _choose_facet(card, rng)
        question = _noisy(self._wording(card, facet, rng), rng)
        return self._encode([Message("user", question)], _middling(card, facet))

    def _conversation(self, card: Card, rng: random.Random) -> Example:
        first, second = rng.sample(list(card.facets), 2)
        follow_up = rng.choice(FOLLOW_UPS[second]).format(other=card.versus_phrase)
        messages = [
            Message("user", _noisy(self._wording(card, first, rng), rng)),
            Message("assistant", rng.choice((_middling(card, first), card.facets[first].short))),
            Message("user", follow_up),
        ]
        return self._encode(messages, _middling(card, second))

    def _double_question(self, card: Card, rng: random.Random) -> Example:
        facet = rng.choice(list(_DOUBLE_QUESTIONS))
        template = rng.choice(_DOUBLE_QUESTIONS[facet])
        question = _noisy(ask(card, facet, template, rng), rng)
        answer = f"{card.facets['definition'].short} {_middling(card, facet)}"
        return self._encode([Message("user", question)], answer)

    def _card_text(self, card: Card, rng: random.Random) -> Example:
        facets = list(card.facets)
        if rng.random() < 0.6:
            rng.shuffle(facets)
        gaps = [rng.choice((" ", "\n\n")) for _ in facets]
        text = "".join(_middling(card, f) + gap for f, gap in zip(facets, gaps, strict=True))
        assert self._prompt.bos_id is not None
        words = self._prompt.encode_words(f"{card.name}\n\n{text.strip()}")
        return Example([self._prompt.bos_id, *words, self._prompt.eos_id], prompt_length=1)

    def _wording(self, card: Card, facet: str, rng: random.Random) -> str:
        while True:
            own = rng.random() < 0.25
            template = rng.choice(TEMPLATES[facet])
            question = card.facets[facet].ask if own else ask(card, facet, template, rng)
            if normalize(question) not in self._heldout_wordings:
                return question

    def _encode(self, messages: list[Message], answer: str) -> Example:
        return self._prompt.encode_example(messages, answer, style_token=None)


def _middling(card: Card, facet: str) -> str:
    return f"{card.facets[facet].short} {card.facets[facet].more}"


def _choose_facet(card: Card, rng: random.Random) -> str:
    """The definition more often: that is what people ask first."""
    return rng.choices(list(card.facets), [2 if f == "definition" else 1 for f in card.facets])[0]


def _noisy(question: str, rng: random.Random) -> str:
    """The question as people type it: with a greeting, without capitals, with a slip."""
    if rng.random() < 0.15:
        question = rng.choice(_OPENINGS) + question
    if rng.random() < 0.12:
        question = question + rng.choice(_CLOSINGS)
    if rng.random() < 0.2:
        question = question.lower()
    if rng.random() < 0.15:
        question = question.rstrip("?.!")
    if rng.random() < 0.12:
        question = _with_a_slip(question, rng)
    return question


def _with_a_slip(text: str, rng: random.Random) -> str:
    """Two letters swapped, or one left out."""
    place = rng.randrange(len(text))
    pair = text[place : place + 2]
    return text[:place] + (pair[::-1] if rng.random() < 0.5 else pair[1:]) + text[place + 2 :]
