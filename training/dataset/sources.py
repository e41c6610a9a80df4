"""Reads the rows of a file, whatever kind it is: JSON lines, JSON or Parquet."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.dataset.hub import read_hub
from training.dataset.problems import Problems

_OTHER_KINDS = (".csv", ".tsv", ".xlsx", ".arrow", ".gz", ".zip", ".zst")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Record:
    """One row as it was read."""

    line: int
    """As in `Row.line`."""
    row: Any


@dataclass(frozen=True)
class Source:
    """Where rows came from."""

    name: str
    """Name of the file, or hub id."""
    records: Sequence[Record]
    sha256: str
    """Of the file's bytes, or of the rows of a data set on the hub."""


def read_source(source: str, problems: Problems) -> Source:
    """Read a file or a data set of the hub; lines that are no JSON become problems."""
    path = Path(source)
    if path.is_file():
        return _read_file(path, problems)
    owner, slash, name = source.partition("/")
    if slash and owner and name and not Path(name).suffix and not path.exists():
        return _read_from_hub(source, problems)
    problems.stop(0, "no such file", "there is no such file")
    return Source(problems.source, [], "")


def source_name(source: str) -> str:
    """What a source is called in messages: a file by its name alone, a hub id as it stands."""
    return Path(source).name if Path(source).is_file() else source


def _read_file(path: Path, problems: Problems) -> Source:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    records: list[Record] = []
    if path.suffix in _OTHER_KINDS:
        text = f"{path.suffix} files are not read; make it JSON lines, JSON or Parquet"
        problems.stop(0, "kind of file", text)
    elif path.suffix == ".parquet":
        records = list(_read_parquet(path, problems))
    elif content.startswith(_UTF_16) or b"\0" in content[:100]:
        text = "the text is UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8"
        problems.stop(0, "wrong encoding", text)
    else:
        if content.startswith(codecs.BOM_UTF8):
            problems.notice(1, "byte order mark", "begins with a byte order mark, which is skipped")
            content = content.removeprefix(codecs.BOM_UTF8)
        rows = _json_list(content) if path.suffix == ".json" else None
        if rows is None:
            records = list(_read_lines(content, problems))
        else:
            records = [Record(number, row) for number, row in enumerate(rows, 1)]
    if not records and not problems.found:
        problems.stop(0, "no rows", "holds no rows")
    return Source(path.name, records, sha256)


def _json_list(content: bytes) -> list[Any] | None:
    """The rows of a file that is one JSON list, or an object with the list `data`; else None."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):  # lines of JSON, or none at all: told line by line
        return None
    if isinstance(data, dict) and isinstance(data.get("data"), list):
        data = data["data"]
    return data if isinstance(data, list) else None


def _read_lines(content: bytes, problems: Problems) -> Iterator[Record]:
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield Record(number, json.loads(line.decode("utf-8")))
        except UnicodeDecodeError as error:
            text = f"not a line of JSON in UTF-8: {error}; convert it: iconv -f LATIN1 -t UTF-8"
            problems.refuse(number, "wrong encoding", text)
        except (ValueError, RecursionError) as error:
            problems.refuse(number, "not JSON", f"not a line of JSON in UTF-8: {error}")


def _read_parquet(path: Path, problems: Problems) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield Record(number, _without_nulls(row))
    except pyarrow.ArrowException as error:
        problems.stop(0, "not Parquet", f"not a whole Parquet file: {error}")


def _read_from_hub(name: str, problems: Problems) -> Source:
    try:
        rows = read_hub(name)
    except OSError as error:
        problems.stop(0, "hub", str(error))
        return Source(name, [], "")
    if not rows:
        problems.stop(0, "no rows", "holds no rows")
    records = [Record(number, _without_nulls(row)) for number, row in enumerate(rows, 1)]
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record.row, sort_keys=True, default=str).encode())
    return Source(name, records, digest.hexdigest())


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """Tables write null where a row does not have a column."""
    return {name: value for name, value in row.items() if value is not None}
