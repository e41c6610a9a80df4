"""Composes the style examples from the concept cards, always the same ones from the same cards.

python -m training.compose      # writes training/data/verbosity_{pairs,heldout}.jsonl
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.prompts import PromptFormat
from adapters.styles import TERSE, VERBOSE
from training import data_card
from training.cards import Card, load_cards, ngram_counts, words_of
from training.questions import TEMPLATES, ask, ask_after_mention, normalize
from training.wording import in_context

DATA_FOLDER = Path(__file__).parent / "data"
PAIRS_FILE = DATA_FOLDER / "verbosity_pairs.jsonl"
HELDOUT_FILE = DATA_FOLDER / "verbosity_heldout.jsonl"
_INNER_STOP = re.compile(r"[.!?](?=.)")
_INNER_STOP_FACTOR = 20
POCKET_FOLDER = Path(__file__).parent.parent / "models" / "pocket"

NUM_QUESTIONS = 800
NUM_HELDOUT = 100
OWN_QUESTION_SHARE = 0.45
HINT_SHARE = 0.15
"""Questions that only describe the concept."""
MENTION_SHARE = 0.12
"""Questions that name the concept in a sentence before; the rest come from the templates."""
CONTEXT_SHARE = 0.4
"""Questions that come with a remark before or after them."""
MAX_TERSE_TOKENS = 28
VERBOSE_TOKENS = (90, 230)
_TARGET_TOKENS = (130, 200)
SEED = 20

# What a long answer goes on with after the facet that was asked for.
CONTINUATIONS = {
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
_LOWERABLE = {
    "A", "An", "The", "In", "On", "At", "When", "If", "With", "Without", "Many", "Most", "Some",
    "Each", "Every", "One", "Two", "Because", "For", "To", "As", "After", "Before", "During",
    "Under", "From", "By", "Even", "Any", "Few", "Several", "Only", "Not", "No", "There", "Its",
    "Their",
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """One wording about one facet of a card."""

    card: Card
    facet: str
    text: str


def heldout_questions(cards: list[Card]) -> list[Question]:
    """Questions of some cards' own that are kept out of every training text."""
    rng = random.Random(SEED)
    questions = []
    for card in rng.sample(cards, NUM_HELDOUT):
        facet = rng.choice(sorted(card.facets))
        questions.append(Question(card, facet, card.facets[facet].asks[0]))
    return questions


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
    target = rng.randint(*_TARGET_TOKENS)
    for index, other in enumerate(name for name in CONTINUATIONS[facet] if name in card.facets):
        if len(prompt.encode_words(join_paragraphs(paragraphs))) >= target:
            break
        part = card.facets[other]
        sentences = [link(other, part.short, rng), part.more]
        # The first continuation explains, the others illustrate: a paragraph each.
        place = min(index, 1)
        for take in (sentences, sentences[:1]):
            grown = [list(sentences) for sentences in paragraphs]
            grown[place] += take
            if _acceptable(join_paragraphs(grown), prompt):
                paragraphs = grown
                break
    text = join_paragraphs(paragraphs)
    if len(prompt.encode_words(text)) < VERBOSE_TOKENS[0]:
        raise ValueError(f"{card.name}: no long answer about its {facet} fits")
    return text


def compose_pairs(cards: list[Card], prompt: PromptFormat) -> list[dict[str, str]]:
    """800 questions, each answered in both styles; rows of prompt, completion and style.

    Raises:
        ValueError: a card cannot give the answers; names every such card.
    """
    rng = random.Random(SEED + 1)
    taken = {normalize(question.text) for question in heldout_questions(cards)}
    questions: list[Question] = []
    # Whole rounds over all cards, so that each gives its share of the questions.
    while len(questions) < NUM_QUESTIONS:
        for card in rng.sample(cards, min(len(cards), NUM_QUESTIONS - len(questions))):
            questions.append(_choose_question(card, prompt, taken, rng))
    return list(_rows(questions, prompt, rng))


def compose_heldout(cards: list[Card], prompt: PromptFormat) -> list[dict[str, str]]:
    """The held-out questions in both styles; no training text has their wording."""
    return list(_rows(heldout_questions(cards), prompt, random.Random(SEED + 2)))


def _rows(
    questions: Iterable[Question], prompt: PromptFormat, rng: random.Random
) -> Iterator[dict[str, str]]:
    problems = []
    for question in questions:
        card, facet = question.card, question.facet
        terse = terse_answer(card, facet)
        if (tokens := len(prompt.encode_words(terse))) > MAX_TERSE_TOKENS:
            problems.append(f"{card.field}/{card.name}: {facet}.short has {tokens} tokens")
        try:
            verbose = verbose_answer(card, facet, prompt, rng)
        except ValueError as error:
            problems.append(f"{card.field}/{error}")
            continue
        yield {"prompt": question.text, "completion": terse, "style": TERSE.name}
        yield {"prompt": question.text, "completion": verbose, "style": VERBOSE.name}
    if problems:
        raise ValueError("\n".join(problems))


def _choose_question(
    card: Card, prompt: PromptFormat, taken: set[str], rng: random.Random
) -> Question:
    """One of the card's own questions or a template, in a wording not yet taken; takes it."""
    tokens = {name: len(prompt.encode_words(terse_answer(card, name))) for name in card.facets}
    # the odd answer of many rare words is for long answers only
    facets = [name for name in card.facets if tokens[name] <= MAX_TERSE_TOKENS] or [*card.facets]
    while True:
        facet = rng.choices(facets, [_weight(card, facet) for facet in facets])[0]
        kind = rng.random()
        if kind < OWN_QUESTION_SHARE:
            text = rng.choice(card.facets[facet].asks)
        elif kind < OWN_QUESTION_SHARE + HINT_SHARE:
            text = rng.choice(card.facets[facet].hints)
        elif kind < OWN_QUESTION_SHARE + HINT_SHARE + MENTION_SHARE:
            text = ask_after_mention(card, facet, rng)
        else:
            text = ask(card, facet, rng.choice(TEMPLATES[facet]), rng)
        # Before the remark is added, or a held-out wording could hide behind one.
        if normalize(text) in taken:
            continue
        taken.add(normalize(text))
        if rng.random() < CONTEXT_SHARE:
            text = in_context(text, rng)
        return Question(card, facet, text)


def _weight(card: Card, facet: str) -> float:
    """How often a facet is asked about; answers with a full stop inside teach where none ends."""
    inside = _INNER_STOP.search(card.facets[facet].short) is not None
    return _FACET_WEIGHTS[facet] * (_INNER_STOP_FACTOR if inside else 1)


def link(facet: str, sentence: str, rng: random.Random) -> str:
    """The sentence, often with a link that fits the facet: 'For example, a login page …'."""
    first = sentence.split()[0]
    if facet not in _LINKS or first not in _LOWERABLE or rng.random() < 0.4:
        return sentence
    return rng.choice(_LINKS[facet]) + first.lower() + sentence[len(first) :]


def join_paragraphs(paragraphs: list[list[str]]) -> str:
    """Sentences to text, with an empty line between paragraphs."""
    return "\n\n".join(" ".join(sentences) for sentences in paragraphs if sentences)


def _acceptable(text: str, prompt: PromptFormat) -> bool:
    """Short enough, and no run of four words or tokens more than twice."""
    ids = prompt.encode_words(text)
    grams = ngram_counts(words_of(text)) + ngram_counts(ids)
    return len(ids) <= VERBOSE_TOKENS[1] and max(grams.values(), default=0) <= 2


def main() -> int:
    """Write both files and the tables of the data card."""
    cards, prompt = load_cards(), PromptFormat.from_folder(POCKET_FOLDER)
    files = {}
    for path, compose in ((PAIRS_FILE, compose_pairs), (HELDOUT_FILE, compose_heldout)):
        files[path.name] = rows = compose(cards, prompt)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        path.write_text("".join(lines), encoding="utf-8")
    tables = data_card.describe(cards, files, prompt)
    data_card.update(DATA_FOLDER / "README.md", tables)
    sys.stdout.write(f"{tables}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
