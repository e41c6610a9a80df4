"""Reads a source of any known format into rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from training.config import DataFormat
from training.dataset.formats import FORMATS, Format, detect_format, format_of, known_formats
from training.dataset.message_tree import join_tree
from training.dataset.problems import Problems
from training.dataset.repeats import without_repeats
from training.dataset.report import SourceReport
from training.dataset.rows import DataError, Row
from training.dataset.sources import Record, read_source, source_name
from training.dataset.turns import Turns, check_style, rows_of

_OWN_FORMAT = "prompt-completion"


def load_rows(
    source: str | Path,
    style_names: Collection[str],
    data_format: DataFormat = "auto",
    turns: Turns = "all",
    *,
    skip_bad: bool = False,
) -> list[Row]:
    """All rows of a source; those that cannot be used are left out if `skip_bad`.

    Raises:
        DataError: listing every row that cannot be used.
    """
    problems = Problems(source_name(str(source)))
    rows, _ = read_rows(str(source), style_names, problems, data_format, turns)
    fatal = ("fatal",) if skip_bad else ("fatal", "refused")
    told = [str(problem) for problem in problems.found if problem.severity in fatal]
    if told:
        raise DataError("\n".join(told))
    return rows


def read_rows(
    source: str,
    style_names: Collection[str],
    problems: Problems,
    data_format: DataFormat = "auto",
    turns: Turns = "all",
) -> tuple[list[Row], SourceReport]:
    """The rows that can be used, and what the source is; everything else becomes a problem."""
    read = read_source(source, problems)
    records = read.records
    detected = data_format == "auto"
    name = detect_format(records) if detected else data_format
    if name == "message-tree":
        records = _join_tree(records, problems)
    rows: list[Row] = []
    if name is not None:
        rows = _read(records, FORMATS[name], style_names, turns, problems)
        _notice_defaults(rows, problems)
    elif records:
        _refuse_unknown(records, problems)
    report = SourceReport(
        name=read.name,
        format=name,
        detected=detected,
        num_rows=len(records),
        num_refused=len(problems.refused_lines),
        sha256=read.sha256,
    )
    return rows, report


def _read(
    records: Sequence[Record],
    form: Format,
    style_names: Collection[str],
    turns: Turns,
    problems: Problems,
) -> list[Row]:
    rows = []
    for record in records:
        if not _is_readable(record, form, problems):
            continue
        told = len(problems.refused_lines)
        conversation = form.read(record.row, record.line, problems)
        check_style(record.row.get("style"), record.line, style_names, problems)
        if conversation is not None and len(problems.refused_lines) == told:
            rows += rows_of(conversation, record.line, turns, style_names, problems)
    if form is not FORMATS[_OWN_FORMAT]:
        _notice_unused_keys(records, form, problems)
    return without_repeats(rows, problems)


def _is_readable(record: Record, form: Format, problems: Problems) -> bool:
    """Whether a row is an object in this format, or might be meant as one."""
    if not isinstance(record.row, dict):
        kind = type(record.row).__name__
        hint = "; a file that is one JSON list is named .json" if kind == "list" else ""
        text = f"a row is a JSON object with {', '.join(form.keys)}, not {kind}{hint}"
        problems.refuse(record.line, "no object", text)
        return False
    own = format_of(record.row)
    if own is None or FORMATS[own].read is form.read:
        return True
    text = f"has the keys of the format {own}, unlike most rows"
    problems.refuse(record.line, "another format", text)
    return False


def _refuse_unknown(records: Sequence[Record], problems: Problems) -> None:
    if keys := _count_keys(records):
        text = (
            f"the keys of the rows ({', '.join(sorted(keys))}) are those of no known format: "
            f"{known_formats()}"
        )
        problems.stop(0, "unknown format", text)
    else:
        for record in records:
            _is_readable(record, FORMATS[_OWN_FORMAT], problems)


def _notice_unused_keys(records: Sequence[Record], form: Format, problems: Problems) -> None:
    for key, count in _count_keys(records).items():
        if key not in form.keys:
            problems.notice(0, "unused key", f"the key {key!r} is not used ({count} rows)")


def _notice_defaults(rows: Sequence[Row], problems: Problems) -> None:
    if rows and all(row.style_origin == "default" for row in rows):
        text = (
            f"no row names a style and no question asks for one, so that all are {rows[0].style}; "
            "give the rows a 'style' if their answers differ"
        )
        problems.notice(0, "style by default", text)


def _count_keys(records: Sequence[Record]) -> Counter[str]:
    return Counter(key for record in records if isinstance(record.row, dict) for key in record.row)


def _join_tree(records: Sequence[Record], problems: Problems) -> list[Record]:
    joined = join_tree(records)
    text = (
        f"{len(records)} messages are {len(joined)} trees; the best ranked replies of each are "
        "one conversation, the others are left out"
    )
    problems.notice(0, "message tree", text)
    return joined
