"""The golden recipe on one GPU and on two, with the same rows behind each step.

Shows seconds per step, the speed-up, and how far the losses lie apart (what is left of rounding
and, unless it is set to 0, of dropout).

    python -m bench.two_gpus --work FOLDER                         # two CUDA devices, 16 GB of disk
    … --set padding_free=true --set effective_batch_size=64        # enough for two to be busy with
    python -m bench.two_gpus --work FOLDER --device cpu --steps 3  # the bundled base, a smoke test
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from adapters.manifest import AdapterManifest
from bench.random_model import GOLDEN_CONFIG, make_random_base
from training.config_file import load_config
from training.watch.log_file import read_log

_POCKET = Path("models/pocket")


def train(count: int, settings: dict[str, object], work: Path) -> dict[str, Any]:
    """Train in `count` processes, started anew; what the run wrote about itself."""
    rows = int(str(settings["effective_batch_size"])) // count
    name = f"on-{count}"
    values = {
        "name": name,
        "output": work / "adapters" / name,
        "runs": work / "runs",
        "micro_batch_size": rows,
        **settings,
    }
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    command = [*(launch if count > 1 else []), "-m", "training", "train", "--fresh"]
    pairs = [f"--set={key}={value}" for key, value in values.items()]
    command += ["--config", str(GOLDEN_CONFIG), *pairs]
    subprocess.run([sys.executable, *command], check=True)
    manifest = (work / "adapters" / name / "manifest.json").read_text(encoding="utf-8")
    log = [entry for entry in read_log(work / "runs" / name / "log.jsonl") if entry.get("loss")]
    first, last = log[0], log[-1]  # the steps up to the first entry are slower
    return {
        "seconds_per_step": (last["seconds"] - first["seconds"]) / (last["step"] - first["step"]),
        "peak_memory_gb": AdapterManifest.from_json(manifest).scores.get("peak_memory_gb"),
        "final_loss": last["loss"],
        "losses": [entry["loss"] for entry in log],
    }


def main() -> int:
    """Train both and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="folder for base and adapters")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--steps", type=int, default=50, help="at least 2")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    on_gpu = arguments.device == "cuda"
    overrides = dict(pair.split("=", 1) for pair in arguments.overrides)
    settings: dict[str, object] = {
        "base_model": make_random_base(arguments.work / "base") if on_gpu else _POCKET,
        "device": arguments.device,
        "max_steps": arguments.steps,
        "logging_steps": 5 if arguments.steps > 10 else 1,
        "heldout_data": "null",
        "validation_share": 0,
        "evaluate_prompts": 0,
        "effective_batch_size": load_config(GOLDEN_CONFIG).effective_batch_size,
        **overrides,
    }
    one, two = (train(count, settings, arguments.work) for count in (1, 2))
    pairs = list(zip(one.pop("losses"), two.pop("losses"), strict=True))
    print(f"{'':20}{'one':>10}{'two':>10}")
    for name, value in one.items():
        if value is not None:
            print(f"{name:20}{value:10.3f}{two[name]:10.3f}")
    result = {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "steps": arguments.steps,
        "overrides": overrides,
        "one": one,
        "two": two,
        "speed_up": one["seconds_per_step"] / two["seconds_per_step"],
        "largest_loss_difference": max(abs(a - b) / a for a, b in pairs),
    }
    for name in ("speed_up", "largest_loss_difference"):
        print(f"{name:30}{result[name]:10.5f}")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
