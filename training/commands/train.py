"""`train`: trains an adapter, judges it, and prints its scores."""

from __future__ import annotations

import argparse
import os
import sys
import time

from training.commands.settings import add_settings, read_settings

HELP = "train an adapter and judge it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_settings(parser)
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="discard what an interrupted run of this name has learned, instead of going on",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train; the adapter's folder is complete when this returns 0."""
    config = read_settings(arguments)
    if "WORLD_SIZE" not in os.environ:  # not started by torchrun: one process uses one GPU
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    from training.run_folder import RunStoppedError
    from training.train import train

    try:
        folder = train(config, fresh=arguments.fresh, seconds_used=time.time() - _process_start())
    except RunStoppedError as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_code
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"adapter written to {folder}")
    return 0


def _process_start() -> float:
    """When this process began, in seconds since 1970: importing the libraries takes time too."""
    import psutil

    return float(psutil.Process().create_time())
