"""Room on the disks that checkpoints and the finished adapter go to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from training.config import TrainConfig
from training.resources.checkup.finding import Finding, readable_bytes
from training.resources.memory import num_trained
from training.resources.model_shape import ModelShape

# What is trained and AdamW's two numbers for each, all in float32.
_CHECKPOINT_BYTES = 12
_ADAPTER_BYTES = 4
_OTHER_FILES_BYTES = 20_000_000
"""Tokenizer, logs, plots."""

FreeBytes = Callable[[Path], int]


def free_on_disk(path: Path) -> int:
    """Bytes that may still be written where the path is, or will be."""
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return shutil.disk_usage(existing).free


def check_room(
    config: TrainConfig, shape: ModelShape, free_bytes: FreeBytes = free_on_disk
) -> list[Finding]:
    """Whether a run fits: the kept checkpoints, the best one, the one being written, the adapter.

    An older adapter stays until the new one is whole.
    """
    trained = num_trained(shape, config)
    saves = config.save_steps or config.evaluate_steps
    num_checkpoints = config.keep_checkpoints + 2 if saves else 1
    needs = {
        "checkpoints": (config.run_folder, num_checkpoints * trained * _CHECKPOINT_BYTES),
        "adapter": (config.output_folder, trained * _ADAPTER_BYTES),
    }
    return [
        _finding(what, path.absolute(), num_bytes + _OTHER_FILES_BYTES, free_bytes)
        for what, (path, num_bytes) in needs.items()
    ]


def _finding(what: str, path: Path, needed: int, free_bytes: FreeBytes) -> Finding:
    free = free_bytes(path)
    text = f"{what} need up to {readable_bytes(needed)} in {path}, {readable_bytes(free)} are free"
    if free < needed:
        fix = "make room, or set runs and output to another disk"
        return Finding("problem", "disk", text, fix)
    return Finding("ok", "disk", text)
