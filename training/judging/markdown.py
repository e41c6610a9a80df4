"""Words of a model in Markdown, where they must not become markup."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_MEANINGFUL = re.compile(r"[\\`*_{}\[\]<>|#~&$@]|(?<=[hHpPsS]):(?=//)|(?<=[wW])\.")
"""What GitHub's Markdown reads as more than itself, the marks of bare links included."""
_BACKSLASH_SUFFICES = frozenset("`*_{}[]#~")
"""The others are read before the backslashes are, or by other rules."""


def escape(text: str) -> str:
    """The text on one line, shown as it is; line ends become `<br>`."""
    return "<br>".join(_escape_line(line) for line in text.strip().splitlines())


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts; an empty one is shown as `(empty)`."""
    lines = [_line(escape(cell) for cell in header), _line("---" for _ in header)]
    lines += [_line(escape(cell) or "*(empty)*" for cell in row) for row in rows]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape_line(line: str) -> str:
    shown = "".join(_visible(character) for character in line)
    return _MEANINGFUL.sub(lambda found: _escape_character(found[0]), shown)


def _escape_character(character: str) -> str:
    return f"\\{character}" if character in _BACKSLASH_SUFFICES else f"&#{ord(character)};"


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    return "�" if unicodedata.category(character) in ("Cc", "Cs") else character
