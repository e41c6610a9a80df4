"""`status.json`: how far a run is, for the page that shows it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from training.survival.atomic_file import replace_text
from training.watch.entries import Entry, EvaluationEntry, TrainingEntry, finite

State = Literal["running", "finished", "failed"]

REFRESH_SECONDS = 60
"""A running run says that it lives this often; its reader gives it up after 300."""
_MAX_DETAIL_CHARACTERS = 2000


class StatusFile:
    """A small file that is always whole, since it is replaced in one move."""

    def __init__(self, path: Path, name: str, *, now: Callable[[], float] = time.time) -> None:
        """Nothing is written before the first state."""
        self._path = path
        self._now = now
        self._written = 0.0
        self._data: dict[str, Any] = {
            "state": "running",
            "name": name,
            "step": None,
            "total_steps": None,
            "loss": None,
            "eta_seconds": None,
            "memory_gb": None,
        }

    def change_state(self, state: State, detail: str | None = None) -> None:
        """Write a state at once, a failed one with its reason."""
        changes: dict[str, Any] = {"state": state, "detail": None}
        if detail is not None:
            changes["detail"] = detail[:_MAX_DETAIL_CHARACTERS]
        if state != "running":
            changes["eta_seconds"] = 0.0 if state == "finished" else None
        self._write(changes)

    def write(self, entry: Entry) -> None:
        """Take over the figures of an entry."""
        changes: dict[str, Any] = {}
        if isinstance(entry, TrainingEntry):
            names = ("step", "total_steps", "loss", "eta_seconds", "memory_gb")
            changes = {name: getattr(entry, name) for name in names}
        elif isinstance(entry, EvaluationEntry):
            changes = {"heldout_loss": entry.heldout_loss}
        self._write(changes)

    def advance(self, step: int, total_steps: int | None) -> None:
        """As far as the run is; written only when the file has not changed for a while."""
        self._data.update(step=step, total_steps=total_steps)
        if self._now() - self._written >= REFRESH_SECONDS:
            self._write({})

    def _write(self, changes: dict[str, Any]) -> None:
        now = self._now()
        updated = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        self._data.update(changes, updated=updated)
        text = json.dumps(finite(self._data), indent=2, ensure_ascii=False, allow_nan=False)
        replace_text(self._path, f"{text}\n", durable=False)  # often, and worth little later
        self._written = now
