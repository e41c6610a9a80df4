"""The rows that a finished adapter is judged on."""

from __future__ import annotations

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
    if data is not None:
        return load_rows(data, names)
    share = config.get("validation_share", 0)
    if config.get("heldout_data") is None and not share:
        raise ValueError("the training of this adapter held out no rows; name a file: --data")
    source = config["train_data"] if config.get("heldout_data") is None else config["heldout_data"]
    rows = load_rows(
        source,
        names,
        config.get("data_format", "auto"),
        config.get("turns", "all"),
        skip_bad=config.get("on_bad_row") == "skip",
    )
    return rows if source == config.get("heldout_data") else split(rows, share, config["seed"])[1]
