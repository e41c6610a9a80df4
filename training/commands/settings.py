"""How every command that needs a run's settings is told them."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.config import TrainConfig
from training.config_file import load_config

# Settings that are given so often that they have an option of their own.
_OPTIONS = {
    "hours": "time budget, evaluation and saving included",
    "memory_gb": "GPU memory that training may use",
}


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options that name a configuration and replace values of it."""
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the run")
    for name, text in _OPTIONS.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, dest=name, metavar="NUMBER", help=f"{text}: {name}=NUMBER")
    add_overrides(parser)


def add_overrides(
    parser: argparse.ArgumentParser, text: str = "replace one value of the configuration"
) -> None:
    """The option that replaces single values; `text` is its help."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="overrides",
        help=f"{text}; may be repeated",
    )


def read_settings(arguments: argparse.Namespace) -> TrainConfig:
    """The settings that the options stand for; raises ConfigError listing what is wrong."""
    given = [(name, getattr(arguments, name)) for name in _OPTIONS]
    shorthands = [f"{name}={value}" for name, value in given if value is not None]
    return load_config(arguments.config, [*shorthands, *arguments.overrides])
