"""What is wrong with the rows of a source, told by line and counted by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["notice", "refused", "fatal"]
"""Worth knowing; the row cannot be used; nothing can be trained until it is put right."""


@dataclass(frozen=True)
class Problem:
    """One finding."""

    source: str
    """File name or hub id."""
    line: int
    """As in `Row.line`; 0 for the source as a whole."""
    kind: str
    """What findings are counted by: 'empty content'."""
    text: str
    severity: Severity

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return f"{place}: {self.text}"


class Problems:
    """Collects the findings of one source."""

    def __init__(self, source: str) -> None:
        """Start with none."""
        self.source = source
        self.found: list[Problem] = []
        self.refused_lines: set[int] = set()

    def notice(self, line: int, kind: str, text: str) -> None:
        """Add something worth knowing about a row that is used."""
        self._add(line, kind, text, "notice")

    def refuse(self, line: int, kind: str, text: str) -> None:
        """Add the reason why a row cannot be used."""
        self.refused_lines.add(line)
        self._add(line, kind, text, "refused")

    def stop(self, line: int, kind: str, text: str) -> None:
        """Add something that leaves nothing to train, whatever is done about single rows."""
        self._add(line, kind, text, "fatal")

    def _add(self, line: int, kind: str, text: str, severity: Severity) -> None:
        self.found.append(Problem(self.source, line, kind, text, severity))


def count_kinds(problems: Iterable[Problem]) -> dict[str, int]:
    """Findings of each kind, the most frequent first."""
    return dict(Counter(problem.kind for problem in problems).most_common())
