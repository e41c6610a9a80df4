"""Counts and length quantiles of the bundled data, kept in the data card by `training.compose`."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from adapters.prompts import PromptFormat
from training.cards import Card

START, END = "<!-- made by training.compose -->", "<!-- end -->"


def describe(
    cards: Sequence[Card], files: dict[str, list[dict[str, str]]], prompt: PromptFormat
) -> str:
    """Markdown tables of the cards per field and of the answers' lengths in tokens."""
    fields = Counter(card.field for card in cards)
    lines = ["| field | cards |", "|---|---|"]
    lines += [f"| {field} | {count} |" for field, count in sorted(fields.items())]
    lines += [f"| all | {len(cards)} |", ""]
    lines += ["| file | style | rows | least | 25 % | median | 75 % | most |", "|---" * 8 + "|"]
    for name, rows in files.items():
        for style in sorted({row["style"] for row in rows}):
            lengths = [
                len(prompt.encode_words(row["completion"])) for row in rows if row["style"] == style
            ]
            low, middle, high = statistics.quantiles(lengths, n=4, method="inclusive")
            lines.append(
                f"| {name} | {style} | {len(lengths)} | {min(lengths)} | {low:.0f} "
                f"| {middle:.0f} | {high:.0f} | {max(lengths)} |"
            )
    return "\n".join(lines)


def update(path: Path, tables: str) -> None:
    """Put the tables between the marks of a Markdown file; ValueError if it has no marks."""
    before, start, rest = path.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{path} lacks the marks {START} and {END}")
    path.write_text(f"{before}{start}\n{tables}\n{end}{after}", encoding="utf-8")
