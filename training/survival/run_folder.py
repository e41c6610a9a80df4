"""The folder of a run: one trainer at a time, what the run depends on, and how far it has come."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from training.config import TrainConfig
from training.survival.atomic_file import replace_text
from training.survival.checkpoints import CheckpointStore

RECORD_NAME = "run.json"
LOCK_NAME = "lock"
State = Literal["running", "stopped", "failed", "finished"]
_logger = logging.getLogger(__name__)

FREE_SETTINGS = {
    "name": "names the folder itself",
    "base_model": "a path; the base's fingerprint counts instead",
    "train_data": "a path; the digest of its content counts instead",
    "heldout_data": "a path; the digest of its content counts instead",
    "adapter": "a path; the digest of its manifest counts instead",
    "output": "where the result goes",
    "runs": "where this folder lies",
    "version": "is only written into the manifest",
    "micro_batch_size": "the rows behind a step stay the same; halved when memory runs out",
    "memory_gb": "decides the micro-batch and what is computed twice",
    "gradient_checkpointing": "computes the same numbers twice",
    "logging_steps": "only tells of the run",
    "save_steps": "only secures the run",
    "keep_checkpoints": "only secures the run",
    "sample_prompts": "only tells of the run",
    "evaluate_prompts": "judges what is finished",
    "tensorboard": "only tells of the run",
}
"""Settings that may differ when a run goes on, with the reason; all others change its result."""


class RunStoppedError(Exception):
    """A signal stopped the run; what it has learned is in a checkpoint."""

    def __init__(self, stopped_by: signal.Signals, folder: Path) -> None:
        """`exit_code` is the one that shells expect: 128 and the signal's number."""
        self.exit_code = 128 + stopped_by
        super().__init__(
            f"stopped by {stopped_by.name}; the same command goes on from {folder}, "
            "--fresh starts anew"
        )


def fingerprint(
    config: TrainConfig, base_fingerprint: str, data_sha256: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that the result depends on, by name; `data_sha256` by the setting's name."""
    settings = _flat(
        {name: value for name, value in config.to_dict().items() if name not in FREE_SETTINGS}
    )
    digests = {f"{name} (sha256)": digest for name, digest in data_sha256.items()}
    if config.adapter is not None:
        manifest = (config.adapter / "manifest.json").read_bytes()
        digests["adapter (sha256)"] = hashlib.sha256(manifest).hexdigest()
    return {**settings, **digests, "base_model (fingerprint)": base_fingerprint}


@dataclasses.dataclass
class RunRecord:
    """What `run.json` holds."""

    state: State
    fingerprint: dict[str, Any]
    detail: str = ""
    """Why a run stopped or failed."""
    starts: int = 0
    """Processes that have worked on the run."""
    seconds_used: float = 0.0
    """By all of them together, up to the last entry."""
    pid: int = 0
    updated: str = ""
    """UTC time in ISO 8601."""


class RunFolder:
    """A run that this process owns; leaves its state behind when it is closed.

    Use it as a context manager, and call `finish` once the adapter is in its place.
    """

    def __init__(
        self, path: Path, lock: IO[str], keep: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Use `RunFolder.open`."""
        self.path = path
        self.checkpoints = CheckpointStore(path, keep)
        self._lock = lock
        self._clock = clock
        self._record = RunRecord("running", {})
        self._used_before = 0.0
        self._opened_at = clock()

    @classmethod
    def open(
        cls,
        path: Path,
        fingerprint: Mapping[str, Any],
        *,
        keep: int = 2,
        fresh: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> RunFolder:
        """Take the folder: go on with the run in it if it is unfinished, else begin a new one.

        Raises:
            ValueError: another trainer is at work there, or the unfinished run depends on
                something else; listing what differs.
        """
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, _lock(path), keep, clock)
        try:
            run._begin(dict(fingerprint), fresh=fresh)
        except BaseException:
            run._lock.close()
            raise
        return run

    @property
    def starts(self) -> int:
        """Processes that have worked on this run, this one included."""
        return self._record.starts

    @property
    def seconds_used(self) -> float:
        """Seconds spent on the run so far, by earlier processes too."""
        return self._used_before + self._clock() - self._opened_at

    def note_time(self) -> None:
        """Write down the time used; after a crash it counts from here."""
        self._write(self._record.state, "", durable=False)

    def finish(self) -> None:
        """The result is complete and in its place: the next run begins anew."""
        self._write("finished", "")

    def __enter__(self) -> Self:
        """The run itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write down how it ended and let others in; an unfinished run can go on."""
        if error is None:
            if self._record.state == "running":
                self._write("stopped", "")
        else:
            stopped = isinstance(error, RunStoppedError | KeyboardInterrupt)
            self._write("stopped" if stopped else "failed", str(error))
        self._lock.close()

    def _begin(self, fingerprint: dict[str, Any], *, fresh: bool) -> None:
        self.checkpoints.remove_unfinished()
        old = None if fresh else self._unfinished()
        if old is None:
            self.checkpoints.clear()
            self._record = RunRecord("running", fingerprint)
        else:
            if differences := _differences(old.fingerprint, fingerprint):
                raise ValueError(
                    f"{self.path} holds an unfinished run that depends on something else:"
                    + "".join(f"\n  - {difference}" for difference in differences)
                    + "\nSet these back to go on with it, or discard it with --fresh"
                )
            self._record = old
            self._used_before = old.seconds_used
        self._record.starts += 1
        self._write("running", "", must_succeed=True)

    def _unfinished(self) -> RunRecord | None:
        """The run to go on with; None if there is none."""
        path = self.path / RECORD_NAME
        try:
            record = RunRecord(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            if not self.checkpoints.steps():
                return None
            reason = "is missing"
        except (ValueError, TypeError) as error:
            reason = f"cannot be read: {error}"
        else:
            return None if record.state == "finished" else record
        raise ValueError(
            f"{path} {reason}, so that nobody knows which run the folder belongs to; "
            "discard it with --fresh"
        )

    def _write(
        self, state: State, detail: str, *, must_succeed: bool = False, durable: bool = True
    ) -> None:
        record = self._record
        record.state, record.detail, record.pid = state, detail, os.getpid()
        record.seconds_used = self.seconds_used
        record.updated = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        text = json.dumps(dataclasses.asdict(record), indent=2, ensure_ascii=False) + "\n"
        try:
            replace_text(self.path / RECORD_NAME, text, durable=durable)
        except OSError as error:
            if must_succeed:
                raise
            # Training is worth more than its book-keeping: a full disk may be emptied meanwhile.
            _logger.warning("%s was not updated: %s", self.path / RECORD_NAME, error)


def _lock(path: Path) -> IO[str]:
    """The open lock file, which the system unlocks however this process ends."""
    file = (path / LOCK_NAME).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise ValueError(
            f"another trainer (process {owner}) is at work in {path}; wait for it, stop it, "
            "or give this run another name"
        ) from None
    with contextlib.suppress(OSError):  # the name of the owner is a courtesy
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, so that a difference is told of the value alone."""
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        parts = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {name: value}
    dot = f"{name}." if name else ""
    return {
        key: item for part, inner in parts for key, item in _flat(inner, f"{dot}{part}").items()
    }


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    missing = "(none)"
    return [
        f"{name}: {_short(old.get(name, missing))} -> {_short(new.get(name, missing))}"
        for name in sorted({*old, *new})
        if old.get(name, missing) != new.get(name, missing)
    ]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 60 else f"{text[:57]}..."
