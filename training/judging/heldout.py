"""The rows that a finished adapter is judged on."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.manifest import AdapterManifest
from training.dataset.reader import load_rows
from training.dataset.rows import Row
from training.dataset.split import split


def heldout_rows(manifest: AdapterManifest, data: str | None = None) -> list[Row]:
    """Rows of `data`, or those that the adapter's own training held out.

    Raises:
        ValueError: training held out nothing, or listing the rows that cannot be used.
    """
    names = [style.name for style in manifest.styles]
    config = manifest.training.get("config", {})
    if data is None:
        data = config.get("heldout_data")
    if data is not None:
        return load_rows(data, names)
    share = config.get("validation_share", 0)
    if not share:
        raise ValueError("the training of this adapter held out no rows; name a file: --data")
    _, measured = split(load_rows(config["train_data"], names), share, config["seed"])
    return measured


def questions_of(rows: Sequence[Row]) -> list[str]:
    """First words of the user in each conversation, every question once."""
    openings = (
        next(message.content for message in row.messages if message.role == "user") for row in rows
    )
    return list(dict.fromkeys(openings))
