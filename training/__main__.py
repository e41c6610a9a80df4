"""python -m training train --config FILE: trains an adapter and prints its scores."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from training.config import ConfigError, load_config


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train style adapters.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train an adapter and judge it")
    train.add_argument("--config", type=Path, required=True, help="YAML file of the run")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="overrides",
        help="replace one value of the configuration; may be repeated",
    )
    return parser


def main() -> int:
    """Run a command; 2 for input that cannot be used."""
    arguments = build_parser().parse_args()
    try:
        config = load_config(arguments.config, arguments.overrides)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    # Set before the libraries are imported: a run talks to nobody unless a hub id is named.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from training.train import train

    try:
        folder = train(config)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    print(json.dumps(manifest["scores"].get("styles", {}), indent=2, ensure_ascii=False))
    print(f"adapter written to {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
