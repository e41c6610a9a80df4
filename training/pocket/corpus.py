"""What the pocket base reads: the cards as texts, and questions answered at a middling length.

No text names a style, and no question has the wording of a held-out one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Iterator

from adapters.prompts import Example, Message, PromptFormat
from training.cards import Card
from training.compose import (
    CONTINUATIONS,
    heldout_questions,
    join_paragraphs,
    link,
)
from training.questions import (
    FOLLOW_UPS,
    MENTIONS,
    TEMPLATES,
    all_questions,
    ask,
    ask_after_mention,
    follow_up,
    normalize,
)
from training.wording import CLOSINGS, OPENINGS, as_typed, beside_another_matter

_DOUBLE_QUESTIONS = {
    "how": ("What is {phrase} and how does it work?", "Define {name} and say how it works."),
    "why": ("What is {phrase} and why does it matter?", "What is {phrase}, and what is it for?"),
    "example": ("What is {phrase}? Give an example too.", "Define {name}, with an example."),
    "limit": (
        "What is {phrase} and what are its limits?",
        "What is {phrase}, and what can go wrong?",
    ),
}


def corpus_texts(cards: list[Card]) -> Iterator[str]:
    """What the tokenizer learns its merges from: names, answers and wordings."""
    follow_ups = [text for texts in FOLLOW_UPS.values() for text in texts]
    for remark in (*OPENINGS, *CLOSINGS, *MENTIONS, *follow_ups):
        yield from (f" {remark} {remark.lower()}",) * 50
    for card in cards:
        # Names often enough, with and without a capital, to become one token a word.
        for name in (card.name, *card.aliases):
            yield from (f" {name} {name[0].upper()}{name[1:]} {name}",) * 80
        for facet, texts in card.facets.items():
            # Answers weigh more than wordings, most of which differ in a word only.
            for _ in range(50):
                yield f"{texts.short} {texts.more}"
            for question in all_questions(card, facet):
                yield question
                yield question.lower()


def corpus_sha256(cards: list[Card]) -> str:
    """Identifies the cards and the ways of asking that a base was trained on."""
    rows = [dataclasses.asdict(card) for card in cards]
    data = json.dumps([rows, TEMPLATES, MENTIONS, FOLLOW_UPS, OPENINGS, CLOSINGS], sort_keys=True)
    return hashlib.sha256(data.encode()).hexdigest()


class Corpus:
    """Draws pre-training examples; the same seed gives the same ones."""

    def __init__(self, cards: list[Card], prompt: PromptFormat) -> None:
        """Hold back the questions that the style data keeps for its held-out part."""
        self._cards = cards
        self._prompt = prompt
        self._heldout = heldout_questions(cards)
        # What other people say in their questions; mostly without the name of a concept.
        self._stray_words = [
            word
            for card in cards
            for facet in card.facets.values()
            for hint in facet.hints
            for word in hint.split()
        ]
        self._heldout_wordings = {normalize(question.text) for question in self._heldout}

    def examples(self, count: int, seed: int) -> Iterator[Example]:
        """`count` examples in a mix of questions, conversations and card texts."""
        rng = random.Random(seed)
        kinds = (
            self._question,
            self._question_by_clues,
            self._conversation,
            self._double_question,
            self._card_text,
        )
        for kind in rng.choices(kinds, (60, 8, 7, 5, 20), k=count):
            yield kind(rng.choice(self._cards), rng)

    def heldout_questions(self) -> list[Example]:
        """The held-out wordings with their middling answers, to measure what was learned."""
        return [
            self._encode([Message("user", held.text)], _middling(held.card, held.facet))
            for held in self._heldout
        ]

    def _question(self, card: Card, rng: random.Random) -> Example:
        facet = _choose_facet(card, rng)
        question = self._typed(self._wording(card, facet, rng), rng)
        return self._encode([Message("user", question)], _answer(card, facet, rng))

    def _question_by_clues(self, card: Card, rng: random.Random) -> Example:
        """Words that belong to a concept, without its name: 'satellites clocks phone position'."""
        facet = _choose_facet(card, rng)
        texts = card.facets[facet]
        words = f"{texts.short} {texts.more} {' '.join(texts.asks)}".split()
        clues = [word.strip("?.,") for word in words if len(word) > 4]
        chosen = rng.sample(clues, min(len(clues), rng.randint(3, 7)))
        start = rng.choice(("", "How come", "What is it called:", "Why", "How", "What about"))
        question = f"{start} {' '.join(chosen)}?".strip()
        return self._encode(
            [Message("user", self._typed(question, rng))], _answer(card, facet, rng)
        )

    def _conversation(self, card: Card, rng: random.Random) -> Example:
        first, second = rng.sample(list(card.facets), 2)
        messages = [
            Message("user", self._typed(self._wording(card, first, rng), rng)),
            Message("assistant", _answer(card, first, rng)),
            Message("user", follow_up(card, second, rng)),
        ]
        return self._encode(messages, _answer(card, second, rng))

    def _double_question(self, card: Card, rng: random.Random) -> Example:
        facet = rng.choice(list(_DOUBLE_QUESTIONS))
        template = rng.choice(_DOUBLE_QUESTIONS[facet])
        question = self._typed(ask(card, facet, template, rng), rng)
        answer = f"{card.facets['definition'].short} {_middling(card, facet)}"
        return self._encode([Message("user", question)], answer)

    def _card_text(self, card: Card, rng: random.Random) -> Example:
        """All of a card in one of the orders in which it can be explained."""
        first = rng.choice(list(card.facets))
        rest = [facet for facet in CONTINUATIONS[first] if facet in card.facets]
        paragraphs = [[card.facets[first].short, card.facets[first].more], []]
        for index, facet in enumerate(rest):
            part = card.facets[facet]
            paragraphs[min(index, 1)] += [link(facet, part.short, rng), part.more]
        assert self._prompt.bos_id is not None
        words = self._prompt.encode_words(f"{card.name}\n\n{join_paragraphs(paragraphs)}")
        return Example([self._prompt.bos_id, *words, self._prompt.eos_id], prompt_length=1)

    def _wording(self, card: Card, facet: str, rng: random.Random) -> str:
        while True:
            kind = rng.random()
            names_concept = kind >= 0.36
            if not names_concept:
                question = rng.choice(card.facets[facet].hints)
            elif kind < 0.68:
                question = rng.choice(card.facets[facet].asks)
            elif kind < 0.92:
                question = ask(card, facet, rng.choice(TEMPLATES[facet]), rng)
            else:
                question = ask_after_mention(card, facet, rng)
            if normalize(question) in self._heldout_wordings:
                continue
            if names_concept and rng.random() < 0.25:
                # the name in the question decides what is asked about, whatever else is told
                question = beside_another_matter(question, self._stray_words, rng)
            return question

    def _typed(self, question: str, rng: random.Random) -> str:
        """The question as somebody might type it, but never as a held-out one."""
        while True:
            typed = as_typed(question, self._stray_words, rng)
            if normalize(typed) not in self._heldout_wordings:
                return typed

    def _encode(self, messages: list[Message], answer: str) -> Example:
        return self._prompt.encode_example(messages, answer, style_token=None)


def _answer(card: Card, facet: str, rng: random.Random) -> str:
    """Mostly two or three sentences, sometimes one, sometimes five: no length is a habit yet."""
    kind = rng.random()
    if kind < 0.15:
        return card.facets[facet].short
    if kind < 0.85:
        return _middling(card, facet)
    following = next(name for name in CONTINUATIONS[facet] if name in card.facets)
    part = card.facets[following]
    return f"{_middling(card, facet)} {link(following, part.short, rng)} {part.more}"


def _middling(card: Card, facet: str) -> str:
    return f"{card.facets[facet].short} {card.facets[facet].more}"


def _choose_facet(card: Card, rng: random.Random) -> str:
    """The definition more often: that is what people ask first."""
    return rng.choices(list(card.facets), [2 if f == "definition" else 1 for f in card.facets])[0]
