"""Rows that say the same as another one, or the opposite."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

from training.dataset.problems import Problems
from training.dataset.rows import Row


def without_repeats(rows: Sequence[Row], problems: Problems) -> list[Row]:
    """The rows, each once, and none whose judgement another row contradicts."""
    last_of_line = {row.line: row for row in rows}
    opposites = _opposites(rows)
    first: dict[Hashable, int] = {}
    kept = []
    for row in rows:
        key = (*_answer_key(row), row.rejected)
        if row.line in opposites:
            if last_of_line[row.line] is row:
                text = f"line {opposites[row.line]} judges the same answer the other way round"
                problems.refuse(row.line, "contradiction", text)
        elif key not in first:
            first[key] = row.line
            kept.append(row)
        elif last_of_line[row.line] is row:
            problems.refuse(row.line, "duplicate", f"says the same as line {first[key]}")
        else:
            text = f"begins like line {first[key]}; that answer is learned once"
            problems.notice(row.line, "repeated turn", text)
    return kept


def _answer_key(row: Row) -> tuple[Hashable, ...]:
    return (row.messages, row.style, row.completion)


def _opposites(rows: Sequence[Row]) -> dict[int, int]:
    """Lines whose answer is good here and bad there, with the line that says so."""
    good: dict[Hashable, list[int]] = defaultdict(list)
    bad: dict[Hashable, list[int]] = defaultdict(list)
    for row in rows:
        (bad if row.label is False else good)[_answer_key(row)].append(row.line)
        if row.rejected is not None:
            bad[row.messages, row.style, row.rejected].append(row.line)
    found: dict[int, int] = {}
    for key in good.keys() & bad.keys():
        found |= dict.fromkeys(good[key], bad[key][0]) | dict.fromkeys(bad[key], good[key][0])
    return found
