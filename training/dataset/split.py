"""Keeps what is measured apart from what is learned, question by question."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from training.dataset.problems import Problems
from training.dataset.rows import Row
from training.questions import normalize

Question = tuple[str, ...]


def split(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Rows to learn and rows to measure, all that begin with one question on the same side.

    Each question is drawn by itself, with the seed, so that it keeps its side whatever rows come
    or go; about the share of many questions is measured, and at least one of two or more.
    """
    drawn = {question_of(row)[0]: _draw(question_of(row)[0], seed) for row in rows}
    by_number = sorted(drawn, key=drawn.__getitem__)
    number = sum(drawn[question] < share for question in by_number)
    # at least one to measure, unless none is wanted, and at least one to learn
    number = min(max(number, int(share > 0)), max(len(by_number) - 1, 0))
    measured = set(by_number[:number])
    learned = [row for row in rows if question_of(row)[0] not in measured]
    return learned, [row for row in rows if question_of(row)[0] in measured]


def without_leaks(
    heldout: Sequence[Row], train: Sequence[Row], train_name: str, problems: Problems
) -> list[Row]:
    """The held-out rows whose question is not asked in training; the others are refused."""
    lines = {question_of(row): row.line for row in reversed(train)}
    kept = []
    for row in heldout:
        line = lines.get(question_of(row))
        if line is None:
            kept.append(row)
        else:
            text = f"the same question is learned ({train_name}:{line}), so it measures nothing"
            problems.refuse(row.line, "leak", text)
    return kept


def question_of(row: Row) -> Question:
    """All that the user says, without case, punctuation and spaces."""
    words = (message.content for message in row.messages if message.role == "user")
    return tuple(normalize(text) or text for text in words)


def _draw(question: str, seed: int) -> float:
    """A number from 0 to below 1."""
    digest = hashlib.sha256(f"{seed}:{question}".encode()).digest()
    return int.from_bytes(digest[:6]) / 256**6
