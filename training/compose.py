"""Composes the style examples from the concept cards, always the same ones from the same cards.

    python -m training.compose      # writes training/data/verbosity_{pairs,heldout}.jsonl
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from adapters.prompts import PromptFormat
from adapters.styles import TERSE, VERBOSE
from training.cards import Card, load_cards, ngram_counts, words_of
from training.questions import TEMPLATES, ask, normalize

DATA_FOLDER = Path(__file__).parent / "data"
PAIRS_FILE = DATA_FOLDER / "verbosity_pairs.jsonl"
HELDOUT_FILE = DATA_FOLDER / "verbosity_heldout.jsonl"
POCKET_FOLDER = Path(__file__).parent.parent / "models" / "pocket"

NUM_QUESTIONS = 800
NUM_HELDOUT = 100
MAX_TERSE_TOKENS = 28
VERBOSE_TOKENS = (90, 230)
SEED = 20

# What a long answer goes on with after the facet that was asked for.
_CONTINUATIONS = {
    "definition": ("how", "why", "example", "limit", "when"),
    "how": ("why", "example", "limit", "when"),
    "why": ("how", "example", "limit", "when"),
    "example": ("how", "why", "limit", "when"),
    "limit": ("how", "example", "why", "when"),
    "when": ("how", "example", "limit", "why"),
    "versus": ("how", "why", "example", "limit"),
}
_FACET_WEIGHTS = {
    "definition": 34,
    "how": 18,
    "why": 14,
    "example": 9,
    "limit": 9,
    "when": 8,
    "versus": 8,
}
_LINKS = {"example": ("For example, ", "For instance, "), "limit": ("Still, ", "Even so, ")}
# Only these are lower-cased behind a link: anything else may be a proper noun.
_LOWERABLE = frozenset(
    "A An The In On At When If With Without Many Most Some Each Every One Two Because For To As "
    "After Before During Under From By Even Any Few Several Only Not No There Its Their".split()
)


def heldout_facets(cards: list[Card]) -> dict[str, str]:
    """Card name to the facet whose own question is kept out of every training text."""
    rng = random.Random(SEED)
    chosen = rng.sample([card.name for card in cards], NUM_HELDOUT)
    facets = {card.name: sorted(card.facets) for card in cards}
    return {name: rng.choice(facets[name]) for name in chosen}


def terse_answer(card: Card, facet: str) -> str:
    """The one-sentence answer about a facet."""
    return card.facets[facet].short


def verbose_answer(card: Card, facet: str, prompt: PromptFormat, rng: random.Random) -> str:
    """A structured answer that opens with the facet, between 90 and 230 tokens long.

    Raises:
        ValueError: the card is too short, or repeats itself too much, for such an answer.
    """
    lead = card.facets[facet]
    paragraphs = [[lead.short, lead.more], []]
    target = rng.randint(130, 200)
    for index, other in enumerate(name for name in _CONTINUATIONS[facet] if name in card.facets):
        if len(prompt.encode_words(_join(paragraphs))) >= target:
            break
        part = card.facets[other]
        sentences = [_linked(other, part.short, rng), part.more]
        for take in (sentences, sentences[:1]):
            paragraph = 0 if index == 0 else 1
            grown = [list(p) for p in paragraphs]
            grown[paragraph] += take
            if _acceptable(_join(grown), prompt):
                paragraphs = grown
                break
    text = _join(paragraphs)
    if len(prompt.encode_words(text)) < VERBOSE_TOKENS[0]:
        raise ValueError(f"{card.name}: no long answer about its {facet} fits")
    return text


def compose_pairs(cards: list[Card], prompt: PromptFormat) -> list[dict[str, str]]:
    """800 questions, each answered in both styles; rows of prompt, completion and style.

    Raises:
        ValueError: a card cannot give the answers; names every such card.
    """
    rng = random.Random(SEED + 1)
    held = heldout_facets(cards)
    taken = {normalize(card.facets[held[card.name]].ask) for card in cards if card.name in held}
    questions: list[tuple[Card, str, str]] = []
    # Whole rounds over all cards, so that each gives its share of the questions.
    while len(questions) < NUM_QUESTIONS:
        for card in rng.sample(cards, len(cards)):
            facet = _choose_facet(card, rng)
            question = _choose_question(card, facet, taken, rng)
            if question is not None and len(questions) < NUM_QUESTIONS:
                taken.add(normalize(question))
                questions.append((card, facet, question))
    return list(_rows(questions, prompt, rng))


def compose_heldout(cards: list[Card], prompt: PromptFormat) -> list[dict[str, str]]:
    """The held-out questions in both styles; no training text has their wording."""
    rng = random.Random(SEED + 2)
    held = heldout_facets(cards)
    questions = [
        (card, held[card.name], card.facets[held[card.name]].ask)
        for card in cards
        if card.name in held
    ]
    return list(_rows(questions, prompt, rng))


def _rows(
    questions: Iterable[tuple[Card, str, str]], prompt: PromptFormat, rng: random.Random
) -> Iterator[dict[str, str]]:
    problems = []
    for card, facet, question in questions:
        terse = terse_answer(card, facet)
        if (tokens := len(prompt.encode_words(terse))) > MAX_TERSE_TOKENS:
            problems.append(f"{card.field}/{card.name}: {facet}.short has {tokens} tokens")
        try:
            verbose = verbose_answer(card, facet, prompt, rng)
        except ValueError as error:
            problems.append(f"{card.field}/{error}")
            continue
        yield {"prompt": question, "completion": terse, "style": TERSE.name}
        yield {"prompt": question, "completion": verbose, "style": VERBOSE.name}
    if problems:
        raise ValueError("\n".join(problems))


def _choose_facet(card: Card, rng: random.Random) -> str:
    facets = list(card.facets)
    return rng.choices(facets, [_FACET_WEIGHTS[facet] for facet in facets])[0]


def _choose_question(card: Card, facet: str, taken: set[str], rng: random.Random) -> str | None:
    """The card's own question or a template, half and half, in a wording not yet taken."""
    own = card.facets[facet].ask
    if rng.random() < 0.5 and normalize(own) not in taken:
        return own
    for template in rng.sample(TEMPLATES[facet], len(TEMPLATES[facet])):
        question = ask(card, facet, template, rng)
        if normalize(question) not in taken and len(question.split()) > 1:
            return question
    return None


def _linked(facet: str, sentence: str, rng: random.Random) -> str:
    first = sentence.split()[0]
    if facet not in _LINKS or first not in _LOWERABLE or rng.random() < 0.4:
        return sentence
    return rng.choice(_LINKS[facet]) + first.lower() + sentence[len(first) :]


def _join(paragraphs: list[list[str]]) -> str:
    return "\n\n".join(" ".join(sentences) for sentences in paragraphs if sentences)


def _acceptable(text: str, prompt: PromptFormat) -> bool:
    """Short enough, and no run of four words or tokens more than twice."""
    ids = prompt.encode_words(text)
    grams = ngram_counts(words_of(text)) + ngram_counts(ids)
    return len(ids) <= VERBOSE_TOKENS[1] and max(grams.values(), default=0) <= 2


def main() -> int:
    """Write both files."""
    cards, prompt = load_cards(), PromptFormat.from_folder(POCKET_FOLDER)
    for path, compose in ((PAIRS_FILE, compose_pairs), (HELDOUT_FILE, compose_heldout)):
        rows = compose(cards, prompt)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        path.write_text("".join(lines), encoding="utf-8")
        sys.stdout.write(f"{path.name}: {len(rows)} rows\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
