"""`train`: trains an adapter, judges it, and prints its scores."""

from __future__ import annotations

import argparse
import json

from training.commands.settings import add_settings, read_settings

HELP = "train an adapter and judge it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_settings(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train; the adapter's folder is complete when this returns."""
    config = read_settings(arguments)
    from training.train import train

    folder = train(config)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    print(json.dumps(manifest["scores"].get("styles", {}), indent=2, ensure_ascii=False))
    print(f"adapter written to {folder}")
    return 0
