"""A finished adapter takes the place of an older one; whatever kills the process, one is there."""

from __future__ import annotations

import shutil
from pathlib import Path

_OLD = "old"
"""The adapter that was there before, while the new one takes its place."""


def clear_up(name: str, output: Path, own: Path) -> None:
    """Remove what runs of this name have left that were killed; nothing of an adapter is lost."""
    for left in output.parent.glob(f".{name}-*"):
        if left == own:
            continue
        if (left / _OLD).is_dir() and not output.exists():  # killed between two renames
            (left / _OLD).rename(output)
        shutil.rmtree(left, ignore_errors=True)


def put_in_place(folder: Path, output: Path) -> None:
    """Move the finished folder to its place, an older adapter out of the way first."""
    old = folder.parent / _OLD
    if output.exists():
        output.rename(old)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner may read
    folder.rename(output)
    shutil.rmtree(old, ignore_errors=True)
