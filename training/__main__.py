"""python -m training COMMAND: looks at data, trains adapters, judges and ships them."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import warnings

COMMANDS = ("train", "data", "evaluate", "merge", "export", "doctor")
"""Each is a file of `training/commands` with HELP, add_arguments(parser) and run(arguments)."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train style adapters.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"training.commands.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main() -> int:
    """Run a command; 2 for input that cannot be used."""
    arguments = build_parser().parse_args()
    # Set before the libraries are imported: a run talks to nobody unless a hub id is named.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    # What the libraries tell each other about names to come is nothing that users can change.
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        code: int = arguments.run(arguments)
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    raise SystemExit(main())
