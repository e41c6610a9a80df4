"""`train`: trains an adapter and judges it."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from training.commands.settings import add_settings, read_settings
from training.config import TrainConfig

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
    is_first = int(os.environ.get("RANK", "0")) == 0
    with _ending_in_order(), contextlib.nullcontext() if is_first else _silent():
        try:
            return _train(arguments, is_first=is_first)
        except KeyboardInterrupt:
            told = "stopped at once; the same command goes on from the newest checkpoint, if any"
            print(told, file=sys.stderr)
            return 128 + signal.SIGINT


def _train(arguments: argparse.Namespace, *, is_first: bool) -> int:
    config = _settings(arguments)
    from training.survival.run_folder import RunStoppedError
    from training.train import train

    try:
        folder = train(config, fresh=arguments.fresh, seconds_used=time.time() - _process_start())
    except RunStoppedError as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_code
    if is_first:
        print(f"adapter written to {folder}")
    return 0


def _settings(arguments: argparse.Namespace) -> TrainConfig:
    if "WORLD_SIZE" not in os.environ:  # not started by torchrun: one process uses one GPU
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
        return read_settings(arguments)
    from training.parallel.processes import Process

    with Process.current().agreeing():
        return read_settings(arguments)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The first process speaks for all; what nobody expects is still told by the one it hits."""
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        yield


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM leaves no temporary folder behind, even before training listens for it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _process_start() -> float:
    """When this process began, in seconds since 1970: importing the libraries takes time too."""
    import psutil

    return float(psutil.Process().create_time())
