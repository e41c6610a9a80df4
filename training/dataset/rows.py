"""Training rows: a conversation that ends with the user's words, and the answer to learn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from adapters.prompts import Message

StyleOrigin = Literal["named", "words", "default"]
"""Named by the row, asked for by the user's words, or neither."""


class DataError(ValueError):
    """Data that cannot be learned; the message lists every problem as `file:line: problem`."""


@dataclass(frozen=True)
class Row:
    """One training example in words."""

    messages: tuple[Message, ...]
    """What the server would be sent; the last one is the user's."""
    completion: str
    """The answer to learn; of a pair, the better one."""
    style: str
    """Name of a style."""
    rejected: str | None = None
    """The worse answer of a pair."""
    label: bool | None = None
    """Whether the answer is a desirable one, where somebody judged it."""
    line: int = 0
    """Line of the file; in JSON lists, Parquet files and data sets number of the row, from 1."""
    style_origin: StyleOrigin = "named"

    @property
    def prompt(self) -> str:
        """The last words of the user."""
        return self.messages[-1].content


def opening_questions(rows: Iterable[Row]) -> list[str]:
    """First words of the user in each conversation, every question once."""
    openings = (
        next(message.content for message in row.messages if message.role == "user") for row in rows
    )
    return list(dict.fromkeys(openings))
