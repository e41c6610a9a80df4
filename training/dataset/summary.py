"""The report on data as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from training.dataset.problems import Problem
from training.dataset.report import DataReport, PartReport, Quantiles

_ORIGINS = {
    "named": "named by the row",
    "words": "told from the user's words",
    "default": "by default, as nothing asks for one",
}
_TITLES = {
    "fatal": "STOPS THE RUN",
    "refused": "CANNOT BE USED",
    "notice": "worth knowing",
}


def summarize(report: DataReport, limit: int | None) -> Iterator[str]:
    """Lines for people, with at most `limit` problems of each kind written out."""
    for source in report.sources:
        how = "told from the keys" if source.detected else "as configured"
        form = "no known format" if source.format is None else f"format {source.format} ({how})"
        yield f"{source.name}: {source.num_rows:,} rows, {form}"
        if source.sha256:
            yield f"  sha256 {source.sha256}"
        if source.num_refused:
            yield f"  rows that cannot be used: {source.num_refused:,}"
    for reason, count in report.left_out.items():
        yield f"left out, {reason}: {count:,}"
    for title, part in (("to learn", report.train), ("held out", report.heldout)):
        yield from _part(title, part)
    for severity in ("notice", "refused", "fatal"):
        yield from _problems([p for p in report.problems if p.severity == severity], limit)
    yield ""
    yield f"read in {report.seconds:.1f} s"


def _part(title: str, part: PartReport) -> Iterator[str]:
    yield ""
    yield f"{title}: {sum(part.num_examples.values()):,} examples"
    if part.prompt_tokens:
        numbers = "".join(f"{name:>7}" for name in ("min", "10 %", "50 %", "90 %", "max"))
        yield f"  {'style':<12}{'examples':>9}  {'tokens of':<8}{numbers}"
    for style, quantiles in part.prompt_tokens.items():
        yield f"  {style:<12}{part.num_examples[style]:>9,}  {'prompt':<8} {_numbers(quantiles)}"
        yield f"  {'':<12}{'':>9}  {'answer':<8} {_numbers(part.answer_tokens[style])}"
    origins = [
        f"{count:,} {_ORIGINS[origin]}" for origin, count in sorted(part.style_origins.items())
    ]
    if origins:
        yield f"  styles: {'; '.join(origins)}"
    if part.num_cut:
        yield f"  answers that lost their end, and their end-of-text, for length: {part.num_cut:,}"
    if part.num_skipped:
        yield f"  examples left out for their length: {part.num_skipped:,}"


def _numbers(quantiles: Quantiles) -> str:
    spread = (quantiles.min, quantiles.p10, quantiles.p50, quantiles.p90, quantiles.max)
    return "".join(f"{number:>7.0f}" for number in spread)[1:]


def _problems(problems: list[Problem], limit: int | None) -> Iterator[str]:
    """Problems of one severity, kind by kind."""
    by_kind: dict[str, list[Problem]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    for kind, found in by_kind.items():
        yield ""
        yield f"{_TITLES[found[0].severity]}: {kind} ({len(found):,})"
        shown = found[:limit]
        yield from (f"  {problem}" for problem in shown)
        if len(found) > len(shown):
            yield f"  … and {len(found) - len(shown):,} more; --all lists them"
