"""Reads training rows: JSONL with a prompt, a completion and, if wanted, a style."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.styles import detect_style

_KNOWN = ("prompt", "completion", "style")


class DataError(ValueError):
    """Malformed rows; the message lists every problem as `file:line: problem`."""


@dataclass(frozen=True)
class Row:
    """One training example in words."""

    prompt: str
    completion: str
    style: str
    """Name of a style."""


def load_rows(path: Path, style_names: Collection[str]) -> list[Row]:
    """Read a JSONL file; a row that names no style gets the one its words ask for.

    Raises:
        DataError: a missing or empty file, or listing every malformed row.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    rows, problems = [], []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as error:  # JSON and UTF-8 errors alike
            problems.append(f"{path.name}:{number}: not a line of JSON in UTF-8: {error}")
            continue
        found = list(_row_problems(data, style_names))
        problems += [f"{path.name}:{number}: {problem}" for problem in found]
        if not found:
            style = data.get("style") or detect_style(data["prompt"]).name
            rows.append(Row(data["prompt"], data["completion"], style))
    if not rows and not problems:
        problems.append(f"{path}: holds no rows")
    if problems:
        raise DataError("\n".join(problems))
    return rows


def data_sha256(path: Path) -> str:
    """Identifies the very file that an adapter was trained on."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _row_problems(data: Any, style_names: Collection[str]) -> Iterator[str]:
    if not isinstance(data, dict):
        yield f"a row is a JSON object with {' and '.join(_KNOWN[:2])}"
        return
    for name in sorted(set(data) - set(_KNOWN)):
        yield f"unknown key {name!r}; known: {', '.join(_KNOWN)}"
    for name in _KNOWN[:2]:
        text = data.get(name)
        if not isinstance(text, str) or not text.strip():
            yield f"{name!r} must be text that is not empty"
        elif not _is_utf8(text):
            yield f"{name!r} holds half of a surrogate pair, which is no text"
    known = ", ".join(sorted(style_names))
    style = data.get("style")
    if style is not None and style not in style_names:
        yield f"unknown style {style!r}; known: {known}"
    elif style is None and isinstance(data.get("prompt"), str):
        guess = detect_style(data["prompt"]).name
        if guess not in style_names:
            yield f"names no style, and its words ask for {guess!r}; name one of: {known}"


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
