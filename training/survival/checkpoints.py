"""Checkpoints that are whole or not there: written aside, checksummed, synced, then renamed.

One process at a time writes to a folder; the lock of `training.survival.run_folder` sees to that.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from adapters.manifest import FileEntry
from training.survival.atomic_file import replace_text, sync_folder

SEAL_NAME = "checkpoint.json"
"""Lists size and sha256 of every other file; written last."""
_PREFIX = "checkpoint-"
_UNFINISHED = ".unfinished-"
_SPACE_FACTOR = 1.2
_logger = logging.getLogger(__name__)


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


class CheckpointStore:
    """The checkpoints of one run: `checkpoint-<step>` folders, the newest ones and the best."""

    def __init__(
        self, folder: Path, keep: int, free_bytes: Callable[[Path], int] = _free_bytes
    ) -> None:
        """`keep` newest checkpoints stay, the best one besides; nothing is touched yet."""
        self.folder = folder
        self._keep = keep
        self._free_bytes = free_bytes

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Have `write` fill a folder, and put it in place once every byte of it is on the disk.

        A whole checkpoint of that step that is there already stays as it is: a run that is
        repeated up to a step finds the same there.

        Raises:
            OSError: it does not fit on the disk; nothing of it is left and older ones are whole.
        """
        final = self.folder / f"{_PREFIX}{step}"
        if final.exists():
            if not (problems := checkpoint_problems(final)):
                return final
            self._quarantine(final, problems)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_space()
        unfinished = self.folder / f"{_UNFINISHED}{final.name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir()
            write(unfinished)
            _seal(unfinished, step)
            unfinished.rename(final)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        sync_folder(self.folder)
        self._rotate()
        return final

    def newest(self) -> Path | None:
        """The newest checkpoint that is whole; a damaged one is moved to `quarantine`."""
        for step in reversed(self.steps()):
            if (path := self._whole(step)) is not None:
                return path
        return None

    def mark_best(self, step: int) -> None:
        """From now on this checkpoint is the best one, which never goes."""
        assert step in self.steps()
        replace_text(self._best_file, f"{_PREFIX}{step}\n")
        self._rotate()

    def best(self) -> Path | None:
        """The checkpoint marked as the best, if it is whole."""
        step = self._best_step()
        return self._whole(step) if step is not None and step in self.steps() else None

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, whole or not, in rising order."""
        found = (path for path in self.folder.glob(f"{_PREFIX}*") if path.is_dir())
        names = (path.name.removeprefix(_PREFIX) for path in found)
        return sorted(int(name) for name in names if name.isdecimal())

    def remove_unfinished(self) -> None:
        """Remove what a process that died has left; only the run's owner may do so."""
        for path in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)

    def clear(self) -> None:
        """Remove every checkpoint, quarantined ones too."""
        for step in self.steps():
            self._remove(step)
        self._best_file.unlink(missing_ok=True)
        shutil.rmtree(self._quarantine_folder, ignore_errors=True)

    @property
    def _best_file(self) -> Path:
        return self.folder / "best"

    @property
    def _quarantine_folder(self) -> Path:
        return self.folder / "quarantine"

    def _best_step(self) -> int | None:
        try:
            return _step(self._best_file.read_text(encoding="utf-8").strip())
        except (OSError, ValueError):
            return None

    def _whole(self, step: int) -> Path | None:
        path = self.folder / f"{_PREFIX}{step}"
        if problems := checkpoint_problems(path):
            self._quarantine(path, problems)
            return None
        return path

    def _quarantine(self, path: Path, problems: list[str]) -> None:
        self._quarantine_folder.mkdir(exist_ok=True)
        place, number = self._quarantine_folder / path.name, 1
        while place.exists():
            number += 1
            place = self._quarantine_folder / f"{path.name}.{number}"
        path.rename(place)
        sync_folder(self.folder)
        reason = "; ".join(problems)
        _logger.warning("%s is damaged and was moved to %s: %s", path, place, reason)

    def _check_space(self) -> None:
        steps = self.steps()
        if not steps:
            return
        last = self.folder / f"{_PREFIX}{steps[-1]}"
        needed = int(_SPACE_FACTOR * sum(path.stat().st_size for path in _files(last)))
        free = self._free_bytes(self.folder)
        if free < needed:
            raise OSError(
                errno.ENOSPC,
                f"a checkpoint needs {needed / 1e6:,.1f} MB and {free / 1e6:,.1f} MB are free",
                str(self.folder),
            )

    def _rotate(self) -> None:
        for step in self.steps()[: -self._keep]:
            if step != self._best_step():
                self._remove(step)

    def _remove(self, step: int) -> None:
        # Renamed first: a crash must not leave half a checkpoint under the name of a whole one.
        path = self.folder / f"{_PREFIX}{step}"
        old = self.folder / f"{_UNFINISHED}old-{path.name}"
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        shutil.rmtree(old, ignore_errors=True)


def checkpoint_problems(path: Path) -> list[str]:
    """What is wrong with a checkpoint's folder, nothing if every byte is as it was written."""
    try:
        sealed = json.loads((path / SEAL_NAME).read_text(encoding="utf-8"))
        files = {name: FileEntry(**entry) for name, entry in sealed["files"].items()}
        step = sealed["step"]
    except FileNotFoundError:
        return [f"{SEAL_NAME} is missing"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{SEAL_NAME} cannot be read: {error!r}"]
    problems = [] if step == _step(path.name) else [f"it is the checkpoint of step {step}"]
    return problems + [
        problem for name, entry in files.items() for problem in _file_problems(path / name, entry)
    ]


def _file_problems(path: Path, entry: FileEntry) -> Iterator[str]:
    try:
        size = path.stat().st_size
        if size != entry.size:
            yield f"{path.name} has {size} bytes, not {entry.size}"
        elif _sha256(path) != entry.sha256:
            yield f"{path.name} was changed: its sha256 is another one"
    except FileNotFoundError:
        yield f"{path.name} is missing"
    except OSError as error:
        yield f"{path.name} cannot be read: {error}"


def _seal(folder: Path, step: int) -> None:
    """Sync everything in the folder, and list it."""
    files = {}
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        entry = FileEntry(path.stat().st_size, _sha256(path))
        files[path.relative_to(folder).as_posix()] = asdict(entry)
    seal = json.dumps({"step": step, "files": files}, indent=2) + "\n"
    replace_text(folder / SEAL_NAME, seal)
    for inner in (path for path in folder.rglob("*") if path.is_dir()):
        sync_folder(inner)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _step(name: str) -> int:
    return int(name.removeprefix(_PREFIX))
