"""An epoch of the golden recipe on Mistral-7B's shape, in several memory budgets, in one run.

Random weights: speed, memory and the losses' agreement are real, the answers would be noise.

    python -m bench.training --work FOLDER                     # needs a CUDA device, 16 GB of disk
    python -m bench.training --work FOLDER --device cpu        # the same on a tiny base
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from pathlib import Path
from typing import Any

import torch

from adapters.manifest import AdapterManifest
from bench.random_model import GOLDEN_CONFIG, make_random_base
from bench.tiny_base import make_tiny_base
from training.config_file import load_config
from training.train import train

FAST = ["padding_free=true", "micro_batch_size=0", "gradient_checkpointing=auto"]
CASES = {
    "golden, as written": [],
    "golden, 12 GB": [*FAST, "memory_gb=12"],
    "dropout 0, 12 GB": [*FAST, "memory_gb=12", "lora_dropout=0"],
    "dropout 0, 24 GB": [*FAST, "memory_gb=24", "lora_dropout=0"],
    "golden, 16 GB profile, checkpoints": [
        *FAST, "memory_gb=14", "optimizer=adamw_8bit", "save_steps=50",
    ],
    "one row at a time, 8 GB, 5 steps": [*FAST, "micro_batch_size=1", "memory_gb=8", "max_steps=5"],
}  # fmt: skip


def run_case(name: str, arguments: argparse.Namespace, base: Path) -> dict[str, Any]:
    """Train once; what it took."""
    work: Path = arguments.work
    settings = [
        f"base_model={base}",
        f"output={work / 'adapter'}",
        f"runs={work / 'runs'}",
        f"device={arguments.device}",
        f"max_steps={arguments.steps}",
        "evaluate_prompts=0",
        "sample_prompts=0",
        "save_steps=0",
    ]
    config = load_config(GOLDEN_CONFIG, [*settings, *CASES[name], *arguments.overrides])
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    folder = train(config, fresh=True)
    seconds = time.perf_counter() - started
    manifest = AdapterManifest.from_json((folder / "manifest.json").read_text(encoding="utf-8"))
    scores = manifest.scores
    checkpoints = sorted(config.run_folder.glob("checkpoint-*"))
    return {
        "case": name,
        "train_seconds": scores["train_seconds"],
        "total_seconds": seconds,
        "steps": scores["steps"],
        "micro_batch_size": scores["micro_batch_size"],
        "checkpointed_layers": scores["checkpointed_layers"],
        "checkpointed_mlps": scores["checkpointed_mlps"],
        "peak_gb": scores.get("peak_memory_gb"),
        "estimated_gb": scores["estimated_memory_gb"],
        "train_loss": scores["train_loss"],
        "heldout_loss": scores.get("heldout_loss"),
        "adapter_mb": _megabytes(folder),
        "checkpoint_mb": _megabytes(checkpoints[-1]) if checkpoints else None,
    }


def main() -> int:
    """Run the cases and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="folder for base and adapters")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--steps", type=int, default=-1, help="optimizer steps; -1 for an epoch")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    on_gpu = arguments.device == "cuda"
    folder = arguments.work / "base"
    base = make_random_base(folder) if on_gpu else make_tiny_base(folder)
    rows = []
    for name in arguments.cases:
        row = run_case(name, arguments, base)
        rows.append(row)
        print(f"{name}: {row}", flush=True)
    print(f"\n{'case':34} {'train s':>8} {'peak GB':>8} {'estimate':>8} {'loss':>8} {'plan':>10}")
    for row in rows:
        peak = "-" if row["peak_gb"] is None else f"{row['peak_gb']:.1f}"
        plan = (
            f"{row['micro_batch_size']} x {row['checkpointed_layers']}+{row['checkpointed_mlps']}"
        )
        print(
            f"{row['case']:34} {row['train_seconds']:8.1f} {peak:>8} "
            f"{row['estimated_gb']:8.1f} {row['train_loss']:8.4f} {plan:>10}"
        )
    device = torch.cuda.get_device_name() if on_gpu else "cpu"
    print(json.dumps({"device": device, "rows": rows}))
    return 0


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
