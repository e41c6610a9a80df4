"""`log.jsonl`: every entry of a run, one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.survival.atomic_file import replace_text
from training.watch.entries import Entry, to_dict


class LogFile:
    """The log of a run; whatever was appended is on disk as far as the system is concerned."""

    def __init__(self, path: Path) -> None:
        """The folder must exist when something is written."""
        self._path = path

    def write(self, entry: Entry) -> None:
        """Append an entry; raises OSError if the disk is full."""
        line = json.dumps(to_dict(entry), ensure_ascii=False, allow_nan=False)
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")

    def cut_back(self, step: int) -> dict[str, Any] | None:
        """Forget what a session wrote after `step`; the last entry of training that is left."""
        if not self._path.exists():
            return None
        kept = [entry for entry in read_log(self._path) if entry["step"] <= step]
        lines = [f"{json.dumps(entry, ensure_ascii=False)}\n" for entry in kept]
        replace_text(self._path, "".join(lines))
        return next((entry for entry in reversed(kept) if entry.get("event") == "training"), None)

    def clear(self) -> None:
        """Forget everything."""
        self._path.unlink(missing_ok=True)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of a log in their order; a line that a dying run left unfinished is none."""
    entries = []
    for line in path.read_bytes().splitlines():
        try:
            entry = json.loads(line.decode("utf-8"))
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            entries.append(entry)
    return entries
