"""python -m training.pocket: makes the bundled base model anew, tokenizer included."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
from pathlib import Path

import torch
import transformers

from training.cards import load_cards
from training.compose import POCKET_FOLDER
from training.pocket.corpus import corpus_sha256, corpus_texts
from training.pocket.pretrain import Measurement, PocketConfig, pretrain
from training.pocket.tokenizer import save_tokenizer, train_tokenizer


def main() -> int:
    """Train the tokenizer and the model and write down how."""
    defaults = PocketConfig()
    parser = argparse.ArgumentParser(prog="python -m training.pocket", description=__doc__)
    parser.add_argument("--out", type=Path, default=POCKET_FOLDER, help="folder to write to")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--max-seconds", type=float, default=defaults.max_seconds)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--processes", type=int, default=defaults.processes)
    parser.add_argument("--tokenizer-only", action="store_true", help="stop after the tokenizer")
    arguments = parser.parse_args()
    config = dataclasses.replace(
        defaults,
        steps=arguments.steps,
        max_seconds=arguments.max_seconds,
        seed=arguments.seed,
        processes=arguments.processes,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    cards = load_cards()
    save_tokenizer(train_tokenizer(corpus_texts(cards), config.vocab_size), arguments.out)
    if not arguments.tokenizer_only:
        curve = pretrain(config, arguments.out, _print_measurement)
        _write_record(arguments.out, config, curve)
    return 0


def _print_measurement(point: Measurement) -> None:
    print(
        f"step {point.step} · loss {point.loss:.4f} · held-out {point.heldout_loss:.4f} "
        f"· {point.seconds:.0f} s",
        flush=True,
    )


def _write_record(folder: Path, config: PocketConfig, curve: list[Measurement]) -> None:
    cuda = torch.cuda.is_available()
    record = {
        "command": f"python -m training.pocket {' '.join(sys.argv[1:])}".strip(),
        "recipe": dataclasses.asdict(config),
        "corpus_sha256": corpus_sha256(load_cards()),
        "hardware": torch.cuda.get_device_name() if cuda else platform.machine(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "curve": [dataclasses.asdict(point) for point in curve],
    }
    text = json.dumps(record, indent=1) + "\n"
    (folder / "pretraining.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
