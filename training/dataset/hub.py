"""Data sets of the Hugging Face hub, named `owner/name` or `owner/name:split`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

_DEFAULT_SPLIT = "train"


def read_hub(
    source: str, load: Callable[..., list[dict[str, Any]]] | None = None
) -> list[dict[str, Any]]:
    """All rows of a split, `train` if none is named; `load` takes a name and a split.

    Raises:
        OSError: it could not be had; the message says what to do.
    """
    name, _, split = source.partition(":")
    try:
        return (load or _load)(name, split or _DEFAULT_SPLIT)
    except Exception as error:  # a dozen classes of three libraries, down to Exception itself
        reason = " ".join(str(error).split()) or type(error).__name__
        offline = "HF_HUB_OFFLINE is set; unset it, or " if _is_offline() else ""
        raise OSError(
            f"could not be had from the hub ({reason}). {offline or 'Check the name, or '}"
            "download the data set elsewhere and name the file (JSON lines, JSON or Parquet)"
        ) from error


def _load(name: str, split: str) -> list[dict[str, Any]]:
    import datasets

    rows: list[dict[str, Any]] = datasets.load_dataset(name, split=split).to_list()
    return rows


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
