"""What was found in the data of a run: for the manifest, and for people."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.dataset.encode import Encoded
from training.dataset.problems import Problem, Severity, count_kinds
from training.dataset.rows import Row, StyleOrigin


@dataclass(frozen=True)
class SourceReport:
    """One file or data set."""

    name: str
    format: str | None
    """None if no row has the keys of a known one."""
    detected: bool
    """Whether the format was told from the keys, not given."""
    num_rows: int
    """Rows that are in it."""
    num_refused: int
    """Rows that cannot be used."""
    sha256: str


@dataclass(frozen=True)
class Quantiles:
    """How numbers of tokens are spread."""

    min: int
    p10: float
    p50: float
    p90: float
    max: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Quantiles:
        """Of one length or more."""
        if len(lengths) == 1:
            return cls(lengths[0], lengths[0], lengths[0], lengths[0], lengths[0])
        tenths = statistics.quantiles(lengths, n=10, method="inclusive")
        return cls(min(lengths), tenths[0], tenths[4], tenths[8], max(lengths))


@dataclass(frozen=True)
class PartReport:
    """The examples to learn, or those that are held out."""

    num_examples: dict[str, int]
    """By style."""
    style_origins: dict[StyleOrigin, int]
    """How the styles of the examples were found."""
    prompt_tokens: dict[str, Quantiles]
    """By style."""
    answer_tokens: dict[str, Quantiles]
    """By style, end-of-text not counted."""
    num_cut: int
    """Answers that lost their end for their length."""
    num_skipped: int
    """Examples left out for their length."""


@dataclass(frozen=True)
class DataReport:
    """Everything worth knowing of the data."""

    sources: tuple[SourceReport, ...]
    """What is learned, then what is held out if that was given."""
    train: PartReport
    heldout: PartReport
    left_out: dict[str, int]
    """Examples that the method does not learn from, by reason."""
    problems: tuple[Problem, ...]
    seconds: float

    def counts(self, *severities: Severity) -> dict[str, int]:
        """Problems of these severities, counted by kind."""
        return count_kinds(p for p in self.problems if p.severity in severities)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest: counts in place of single problems."""
        parts = {"train": self.train, "heldout": self.heldout}
        return {
            "sources": [dataclasses.asdict(source) for source in self.sources],
            **{name: dataclasses.asdict(part) for name, part in parts.items()},
            "left_out": self.left_out,
            "problems": self.counts("refused", "fatal"),
            "notices": self.counts("notice"),
            "seconds": round(self.seconds, 2),
        }


def report_part(encoded: Encoded, styles: Sequence[str]) -> PartReport:
    """Counts and lengths of encoded rows, the styles in the given order."""
    present = [name for name in styles if any(row.style == name for row in encoded.rows)]
    return PartReport(
        num_examples={name: _count(encoded.rows, name) for name in styles},
        style_origins=dict(Counter(row.style_origin for row in encoded.rows)),
        prompt_tokens={
            name: Quantiles.of(_lengths(encoded.rows, encoded.prompt_lengths, name))
            for name in present
        },
        answer_tokens={
            name: Quantiles.of(_lengths(encoded.rows, encoded.answer_lengths, name))
            for name in present
        },
        num_cut=encoded.num_cut,
        num_skipped=encoded.num_skipped,
    )


def _count(rows: Sequence[Row], style: str) -> int:
    return sum(row.style == style for row in rows)


def _lengths(rows: Sequence[Row], lengths: Sequence[int], style: str) -> list[int]:
    return [length for row, length in zip(rows, lengths, strict=True) if row.style == style]
