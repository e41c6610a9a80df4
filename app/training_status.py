"""`GET /api/training/status`: how far the newest training run is, from the file it keeps."""

from __future__ import annotations

import dataclasses
import json
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify
from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load
from marshmallow.validate import OneOf

from app.context import get_config
from app.schemas import Number, WholeNumber

STALE_SECONDS = 300
"""A run that says "running" and has written nothing for longer has died without a word."""
WRITTEN_STATES = ("running", "finished", "failed")
"""What a trainer writes; `stale` and `idle` are conclusions of this page."""
MOST_BYTES = 64 * 1024
"""No more is read of a file; a larger one is not what a trainer writes."""

blueprint = Blueprint("training_status", __name__, url_prefix="/api/training")


@blueprint.get("/status")
def status() -> Response:
    """The state of the newest run whose file can be read; `idle` when there is none."""
    newest = read_newest(get_config().runs_folder)
    if newest is None:
        return jsonify(state="idle")
    return jsonify(TrainingStatusSchema().dump(newest))


class Moment(fields.Field[datetime]):
    """A point in time: ISO 8601 or seconds since 1970; written as ISO 8601 in UTC."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> datetime:
        try:
            if not isinstance(value, str):
                return datetime.fromtimestamp(value, UTC)
            moment = datetime.fromisoformat(value)
            zoned = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
            return zoned.astimezone(UTC)
        except (TypeError, ValueError, OverflowError, OSError) as error:
            raise ValidationError("Must be a point in time.") from error

    def _serialize(self, value: datetime | None, *_: Any, **__: Any) -> str | None:
        return None if value is None else value.isoformat(timespec="seconds")


@dataclass(frozen=True)
class TrainingStatus:
    """What a trainer says of its run; None for what it does not know."""

    state: str
    """`running`, `finished`, `failed`, or `stale` for a run that seems to have died."""
    name: str | None
    step: int | None
    total_steps: int | None
    loss: float | None
    eta_seconds: float | None
    memory_gb: float | None
    updated: datetime | None
    """When the trainer wrote it."""


class TrainingStatusSchema(Schema):
    """The file of a run, and the body of the answer."""

    class Meta:
        """A trainer may write more than is asked for here."""

        unknown = EXCLUDE

    state = fields.String(required=True, validate=OneOf((*WRITTEN_STATES, "stale", "idle")))
    name = fields.String(allow_none=True, load_default=None)
    step = WholeNumber(allow_none=True, load_default=None)
    total_steps = WholeNumber(allow_none=True, load_default=None)
    loss = Number(allow_none=True, load_default=None)
    eta_seconds = Number(allow_none=True, load_default=None)
    memory_gb = Number(allow_none=True, load_default=None)
    updated = Moment(allow_none=True, load_default=None)

    @post_load
    def make_status(self, data: dict[str, Any], **_: Any) -> TrainingStatus:
        """A frozen status."""
        return TrainingStatus(**data)


def read_newest(folder: Path) -> TrainingStatus | None:
    """The status of the run that was written last; files that are no status do not count."""
    for written, file in sorted(_find_files(folder), reverse=True):
        if (found := _read(file)) is not None:
            updated = written if found.updated is None else found.updated.timestamp()
            if found.state == "running" and time.time() - updated > STALE_SECONDS:
                return dataclasses.replace(found, state="stale")
            return found
    return None


def _find_files(folder: Path) -> Iterator[tuple[float, Path]]:
    """Status files with the time of their last change."""
    for file in folder.glob("*/status.json"):
        try:
            facts = file.stat()
        except OSError:
            continue  # gone since
        if stat.S_ISREG(facts.st_mode):
            yield facts.st_mtime, file


def _read(file: Path) -> TrainingStatus | None:
    """The status in a file; None for one that is unreadable, half written or something else."""
    try:
        with file.open("rb") as stream:
            text = stream.read(MOST_BYTES)
        # a loss that is no number any more is no number in JSON either
        data = json.loads(text.decode("utf-8"), parse_constant=lambda _: None)
        found: TrainingStatus = TrainingStatusSchema().load(data)
    except (OSError, ValueError, RecursionError, ValidationError):
        return None
    return found if found.state in WRITTEN_STATES else None
