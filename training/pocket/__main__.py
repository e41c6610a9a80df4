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
    parser = argparse.ArgumentParser(prog="python -m training.pocket", description=__doc__)
    parser.add_argument("--out", type=Path, default=POCKET_FOLDER, help="folder to write to")
    parser.add_argument("--tokenizer-only", action="store_true", help="stop after the tokenizer")
    for field in dataclasses.fields(PocketConfig):
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, type=type(field.default), default=field.default)
    arguments = vars(parser.parse_args())
    folder, tokenizer_only = arguments.pop("out"), arguments.pop("tokenizer_only")
    config = PocketConfig(**arguments)
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(train_tokenizer(corpus_texts(load_cards()), config.vocab_size), folder)
    if not tokenizer_only:
        curve = pretrain(config, folder, _print_measurement)
        _write_record(folder, config, curve)
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
