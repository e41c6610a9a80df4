"""The golden recipe for real, on a base of Mistral-7B's shape with random weights.

Trains an adapter with `training/configs/mistral-7b-golden.yaml`, serves it with the app, and asks
`/generate` in both styles. Shows speed, memory and size; the answers of random weights are noise.

    python -m bench.golden_run --work FOLDER          # needs a CUDA device and 16 GB of disk
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from adapters.manifest import AdapterManifest
from app import create_app
from bench.random_model import GOLDEN_CONFIG, make_random_base
from serving.config import EngineConfig
from serving.engine import ModelEngine
from training.config_file import load_config
from training.train import train


def ask_app(adapter: Path, base: Path) -> dict[str, Any]:
    """Load the adapter behind the app and ask both styles three times each."""
    started = time.perf_counter()
    torch.cuda.reset_peak_memory_stats()
    engine = ModelEngine(EngineConfig(adapter=adapter, base_model=str(base), device="cuda"))
    engine.start()
    while engine.status().state == "loading":
        time.sleep(0.1)
    result: dict[str, Any] = {"load_seconds": time.perf_counter() - started}
    client = create_app(engine).test_client()
    for style in ("terse", "verbose"):
        answers = []
        for seed in range(3):
            body = {"prompt": "What is rate limiting?", "style": style, "seed": seed}
            response = client.post("/generate", json=body)
            assert response.status_code == 200, response.text
            answers.append(response.get_json())
        speeds = [answer["tokens"] / answer["latency"] for answer in answers[1:]]
        result[f"{style}_tokens_per_second"] = sum(speeds) / len(speeds)
        result[f"{style}_tokens"] = [answer["tokens"] for answer in answers]
    result["health"] = client.get("/health").get_json()
    result["serving_peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    engine.stop()
    return result


def main() -> int:
    """Run it all and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="folder for base and adapter")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    base, adapter = arguments.work / "base", arguments.work / "adapter"
    make_random_base(base, arguments.layers)
    overrides = [f"base_model={base}", f"output={adapter}", *arguments.overrides]
    started = time.perf_counter()
    torch.cuda.reset_peak_memory_stats()
    train(load_config(GOLDEN_CONFIG, overrides))
    manifest = AdapterManifest.from_json((adapter / "manifest.json").read_text(encoding="utf-8"))
    scores = manifest.scores
    result = {
        "train_total_seconds": time.perf_counter() - started,
        "seconds_per_step": scores["train_seconds"] / scores["steps"],
        "train_seconds": scores["train_seconds"],
        "train_peak_gb": scores["peak_memory_gb"],
        "first_loss": scores["train_losses"][0][1],
        "last_loss": scores["train_losses"][-1][1],
        "adapter_mb": sum(file.stat().st_size for file in adapter.iterdir()) / 1e6,
        **ask_app(adapter, base),
    }
    for name, value in result.items():
        print(f"{name:28} {value:.3f}" if isinstance(value, float) else f"{name:28} {value}")
    print(json.dumps({"device": torch.cuda.get_device_name(), **result}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
