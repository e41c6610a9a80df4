"""`data`: says what is in training data, what is wrong with it, and what would be learned."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.settings import add_overrides
from training.config import TrainConfig
from training.config_file import load_config, make_config

if TYPE_CHECKING:
    from training.dataset.load import Examples

HELP = "check training data, or see what of it is learned"

_BASE = "models/pocket"
_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="report on data; exit code 1 if it cannot be trained")
    _add_source(check)
    check.add_argument("--all", action="store_true", help=f"every problem, not {_SHOWN} of a kind")
    check.add_argument("--json", action="store_true", help="the report as JSON")
    preview = actions.add_parser("preview", help="show what of the first examples is learned")
    _add_source(preview)
    preview.add_argument("-n", type=int, default=3, metavar="NUMBER", help="examples to show")


def run(arguments: argparse.Namespace) -> int:
    """Check or show; 1 if the trainer would refuse the data."""
    config = _config(arguments)
    base = Path(config.base_model)
    if not base.is_dir():
        raise ValueError(
            f"base model {config.base_model!r} is no folder here; name one whose tokenizer is to "
            "count the tokens: --base FOLDER"
        )
    from training.style_tokens import prepare_tokenizer

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare_tokenizer(base, config.styles, folder)
        return (_check if arguments.action == "check" else _preview)(arguments, config, folder)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="?",
        help="file (JSON lines, JSON, Parquet) or hub id, in place of the configured train_data",
    )
    parser.add_argument("--config", type=Path, help="YAML file of the run that the data is for")
    parser.add_argument("--format", metavar="NAME", help="data_format, if the keys mislead")
    parser.add_argument(
        "--on-bad-row", choices=("fail", "skip"), help="whether rows that cannot be used matter"
    )
    parser.add_argument("--base", metavar="FOLDER", help=f"base model, for its tokenizer ({_BASE})")
    add_overrides(parser)


def _config(arguments: argparse.Namespace) -> TrainConfig:
    options = {
        "train_data": arguments.file,
        "data_format": arguments.format,
        "on_bad_row": arguments.on_bad_row,
        "base_model": arguments.base,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if arguments.config is not None:
        written = [f"{name}={json.dumps(value)}" for name, value in given.items()]
        return load_config(arguments.config, [*written, *arguments.overrides])
    if arguments.file is None:
        raise ValueError("name a file or hub id to look at, or a configuration: --config FILE")
    values = {"name": "data", "base_model": _BASE, "evaluate_prompts": 0, **given}
    return make_config(values, arguments.overrides, "the command line")


def _examples(config: TrainConfig, folder: Path) -> Examples:
    from adapters.prompts import PromptFormat
    from training.dataset.load import examine

    return examine(config, PromptFormat.from_folder(folder))


def _check(arguments: argparse.Namespace, config: TrainConfig, folder: Path) -> int:
    from training.dataset.load import obstacles
    from training.dataset.summary import summarize

    report = _examples(config, folder).report
    in_the_way = len(obstacles(report, config))
    if arguments.json:
        listed = [dataclasses.asdict(problem) for problem in report.problems]
        whole = {**report.to_dict(), "usable": not in_the_way, "listed": listed}
        print(json.dumps(whole, indent=2, ensure_ascii=False))
    else:
        print("\n".join(summarize(report, None if arguments.all else _SHOWN)))
        verdict = f"problems in the way: {in_the_way:,}" if in_the_way else "ready to train"
        print(f"{verdict} (on_bad_row: {config.on_bad_row})")
    return 1 if in_the_way else 0


def _preview(arguments: argparse.Namespace, config: TrainConfig, folder: Path) -> int:
    from training.dataset.preview import Preview

    examples = _examples(config, folder)
    tokens = {style.name: style.token for style in config.styles}
    in_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    preview = Preview(folder, tokens, in_colour=in_colour)
    rows = sorted((*examples.train_rows, *examples.heldout_rows), key=lambda row: row.line)
    for row in rows[: arguments.n]:
        print("\n".join(preview.draw(row)), end="\n\n")
    if not rows:
        print("no row can be used; see: data check", file=sys.stderr)
    return 0 if rows else 1
