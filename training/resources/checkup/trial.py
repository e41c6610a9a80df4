"""One real optimizer step over the longest rows, measured and held against the estimate."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from training.config import TrainConfig
from training.dataset.rows import Row
from training.resources.checkup.finding import Finding, readable_bytes
from training.resources.plan import Plan

_TOLERANCE = 0.15
"""How far the estimate may be off."""

Train = Callable[[TrainConfig], Path]
"""Trains and returns the adapter's folder."""


def try_step(
    config: TrainConfig, rows: Sequence[Row], lengths: Sequence[int], plan: Plan, train: Train
) -> Finding:
    """Train one step over the rows that need the most memory, in a folder that is then removed."""
    with tempfile.TemporaryDirectory(prefix="trial-") as temporary:
        folder = Path(temporary)
        longest = sorted(range(len(rows)), key=lambda index: lengths[index], reverse=True)
        chosen = _choose([rows[index] for index in longest], config)
        write_rows(folder / "rows.jsonl", chosen)
        adapter = train(_trial_config(config, folder))
        manifest = json.loads((adapter / "manifest.json").read_text(encoding="utf-8"))
    return _compare(manifest["scores"], plan)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows in the formats that the trainer reads."""
    path.write_text(
        "".join(json.dumps(_to_json(row), ensure_ascii=False) + "\n" for row in rows),
        encoding="utf-8",
    )


def _choose(rows: list[Row], config: TrainConfig) -> list[Row]:
    """The longest rows of one step; KTO learns from good and bad ones only."""
    chosen = rows[: config.effective_batch_size]
    if config.method == "kto" and len({row.label for row in chosen}) == 1:
        other = next(row for row in rows if row.label != chosen[0].label)
        chosen[-1] = other
    return chosen


def _to_json(row: Row) -> dict[str, Any]:
    prompt = [dataclasses.asdict(message) for message in row.messages]
    shared = {"prompt": prompt, "style": row.style}
    if row.rejected is not None:
        return {**shared, "chosen": row.completion, "rejected": row.rejected}
    label = {} if row.label is None else {"label": row.label}
    return {**shared, "completion": row.completion, **label}


def _trial_config(config: TrainConfig, folder: Path) -> TrainConfig:
    return dataclasses.replace(
        config,
        train_data=str(folder / "rows.jsonl"),
        data_format="auto",
        heldout_data=None,
        validation_share=0.0,
        output=folder / "adapter",
        runs=folder / "runs",
        max_steps=1,
        hours=0.0,
        save_steps=0,
        evaluate_steps=0,
        early_stopping_evaluations=0,
        sample_prompts=0,
        evaluate_prompts=0,
        tensorboard=False,
    )


def _compare(scores: dict[str, Any], plan: Plan) -> Finding:
    seconds = f"a first step took {scores['train_seconds']:.1f} s, its start included"
    peak = scores.get("peak_memory_gb")
    if peak is None:
        return Finding("ok", "trial", f"{seconds}; memory is measured on GPUs only")
    peak_bytes, estimated_bytes = peak * 1e9, plan.estimate.allocated
    error = estimated_bytes / peak_bytes - 1
    text = (
        f"{seconds}; peak {readable_bytes(peak_bytes)}, "
        f"estimated {readable_bytes(estimated_bytes)} ({error:+.0%})"
    )
    if abs(error) <= _TOLERANCE:
        return Finding("ok", "trial", text)
    fix = "set micro_batch_size and gradient_checkpointing yourself" if error < 0 else ""
    return Finding("warning", "trial", text, fix)
