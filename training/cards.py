"""Concept cards: the knowledge that the bundled data and the pocket base are made of.

A card describes one concept in facets. Each facet has natural questions that name the concept
(`asks`) or only describe it (`hints`), an answer in one sentence that stands alone (`short`) and
one or two sentences that deepen it (`more`).

    python -m training.cards            # check every card, exit 1 and list the problems if any
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CARDS_FOLDER = Path(__file__).parent / "data" / "cards"

REQUIRED_FACETS = ("definition", "how", "why", "example", "limit")
OPTIONAL_FACETS = ("when", "versus")
FACETS = REQUIRED_FACETS + OPTIONAL_FACETS

SHORT_WORDS = (5, 16)
MORE_WORDS = (12, 32)
MIN_ASKS = 3
MIN_HINTS = 2
MAX_ALIASES = 9
MAX_SHORT_CHARACTERS = 105
"""Keeps a short answer within 28 tokens of the pocket tokenizer."""


@dataclass(frozen=True)
class Facet:
    """One side of a concept."""

    asks: tuple[str, ...]
    """Questions a person would type to get this facet."""
    hints: tuple[str, ...]
    """Questions of somebody who does not know the name and describes the concept."""
    short: str
    """The answer in one sentence that stands alone."""
    more: str
    """One or two sentences that go on from `short` with new detail."""


@dataclass(frozen=True)
class Card:
    """One concept with its facets."""

    field: str
    name: str
    """The bare name, for titles: 'hash table'."""
    phrase: str
    """As it reads after 'What is' (singular): 'a hash table'."""
    aliases: tuple[str, ...]
    """Other forms that read well after 'Tell me about': 'hash tables', 'hash maps'."""
    facets: dict[str, Facet]
    versus_phrase: str = ""
    """What `versus` compares with, as it reads after 'differ from'; empty without that facet."""


class CardError(ValueError):
    """Malformed cards; the message lists every problem with file and line."""


def load_cards(folder: Path = CARDS_FOLDER) -> list[Card]:
    """Read every card of a folder of JSONL files, in a fixed order.

    Raises:
        CardError: listing all problems, one per line, as `file:line: problem`.
    """
    cards: list[Card] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in _lines(path):
            place = f"{path.name}:{number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                problems.append(f"{place}: not JSON: {error}")
                continue
            found = list(_row_problems(row))
            if not found:
                card = _to_card(path.stem, row)
                cards.append(card)
                found = list(_name_problems(card, place, seen))
            problems.extend(f"{place}: {problem}" for problem in found)
    if problems:
        raise CardError("\n".join(problems))
    return cards


def ngram_counts(words: Iterable[Any], size: int = 4) -> Counter[tuple[Any, ...]]:
    """Count the runs of `size` consecutive items."""
    items = list(words)
    return Counter(zip(*(items[start:] for start in range(size)), strict=False))


def words_of(text: str) -> list[str]:
    """Lower-case words of a text without punctuation."""
    return re.findall(r"[a-z0-9]+(?:['.][a-z0-9]+)*", text.lower())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            yield number, line


def _row_problems(row: Any) -> Iterator[str]:
    if not isinstance(row, dict):
        yield "a card is a JSON object"
        return
    required = {"name", "phrase", "aliases", *REQUIRED_FACETS}
    if missing := sorted(required - set(row)):
        yield f"missing {', '.join(missing)}"
    if unknown := sorted(set(row) - required - set(OPTIONAL_FACETS)):
        yield f"unknown key {', '.join(unknown)}"
    if missing or unknown:
        return
    aliases = row["aliases"]
    texts = [row["name"], row["phrase"], *(aliases if isinstance(aliases, list) else [None])]
    if not all(isinstance(text, str) and text.strip() == text and text for text in texts):
        yield "name, phrase and each alias must be non-empty text; aliases is a list"
        return
    if not 1 <= len(aliases) <= MAX_ALIASES:
        yield f"needs 1 to {MAX_ALIASES} aliases"
    for facet in FACETS:
        if facet in row:
            yield from _facet_problems(facet, row[facet], [row["name"], *aliases])
    yield from _repetition_problems(row)


def _facet_problems(facet: str, value: Any, names: list[str]) -> Iterator[str]:
    lists = {"asks", "hints"}
    keys = {*lists, "short", "more"} | ({"with"} if facet == "versus" else set())
    well_formed = isinstance(value, dict) and set(value) == keys
    if not well_formed or not all(isinstance(value[key], list) for key in lists):
        yield f"{facet} needs exactly {', '.join(sorted(keys))}; asks and hints are lists"
        return
    texts = [*value["asks"], *value["hints"], *(value[key] for key in keys - lists)]
    if not all(isinstance(text, str) and text.strip() == text and text for text in texts):
        yield f"{facet}: every text must be non-empty and without outer spaces"
        return
    short, more = value["short"], value["more"]
    yield from _question_problems(facet, value["asks"], value["hints"], names)
    for key, text in (("short", short), ("more", more)):
        if not text.endswith((".", "!")) or not (text[0].isupper() or text[0].isdigit()):
            yield f"{facet}.{key} is not a sentence: {text!r}"
        if not text.isascii():
            odd = sorted({character for character in text if not character.isascii()})
            yield f"{facet}.{key} has characters outside ASCII: {odd}"
    yield from _length_problems(f"{facet}.short", short, SHORT_WORDS)
    yield from _length_problems(f"{facet}.more", more, MORE_WORDS)
    if len(short) > MAX_SHORT_CHARACTERS:
        yield f"{facet}.short has {len(short)} characters, at most {MAX_SHORT_CHARACTERS}"


def _question_problems(
    facet: str, asks: list[str], hints: list[str], names: list[str]
) -> Iterator[str]:
    if len(asks) < MIN_ASKS:
        yield f"{facet} needs {MIN_ASKS} or more asks"
    if len(hints) < MIN_HINTS:
        yield f"{facet} needs {MIN_HINTS} or more hints"
    for question in asks:
        if not any(name.lower() in question.lower() for name in names):
            yield f"{facet}: no name or alias in {question!r}"
    for question in hints:
        if name := next((name for name in names if _has_word(question, name)), None):
            yield f"{facet}: the hint {question!r} gives away {name!r}"
    for question in (*asks, *hints):
        if not question.endswith(("?", ".")):
            yield f"{facet}: neither ? nor . ends {question!r}"


def _has_word(text: str, word: str) -> bool:
    text, word = text.lower(), word.lower()
    if word not in text:  # told so much faster for the thousands of questions without it
        return False
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", text) is not None


def _length_problems(where: str, text: str, limits: tuple[int, int]) -> Iterator[str]:
    count = len(text.split())
    if not limits[0] <= count <= limits[1]:
        yield f"{where} has {count} words, not {limits[0]} to {limits[1]}"


def _repetition_problems(row: dict[str, Any]) -> Iterator[str]:
    parts = [row[facet] for facet in FACETS if isinstance(row.get(facet), dict)]
    text = " ".join(f"{part.get('short', '')} {part.get('more', '')}" for part in parts)
    for gram, count in ngram_counts(words_of(text)).items():
        if count > 2:
            yield f"'{' '.join(gram)}' stands {count} times; two at most"


def _name_problems(card: Card, place: str, seen: dict[str, str]) -> Iterator[str]:
    own = {card.name.lower(), card.phrase.lower(), *(alias.lower() for alias in card.aliases)}
    for name in sorted(own):
        if name in seen:
            yield f"{name!r} is already a name or alias at {seen[name]}"
        seen[name] = place


def _to_card(field: str, row: dict[str, Any]) -> Card:
    facets = {
        facet: Facet(
            asks=tuple(row[facet]["asks"]),
            hints=tuple(row[facet]["hints"]),
            short=row[facet]["short"],
            more=row[facet]["more"],
        )
        for facet in FACETS
        if facet in row
    }
    versus = row["versus"]["with"] if "versus" in row else ""
    return Card(field, row["name"], row["phrase"], tuple(row["aliases"]), facets, versus)


def main() -> int:
    """Check the cards and print their number per field."""
    try:
        cards = load_cards()
    except CardError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for field, count in sorted(Counter(card.field for card in cards).items()):
        sys.stdout.write(f"{count:5d}  {field}\n")
    sys.stdout.write(f"{len(cards):5d}  cards, no problems\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
