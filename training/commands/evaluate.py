"""`evaluate`: judges any adapter folder and writes a style report; the adapter stays as it is."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.commands.settings import add_overrides

HELP = "judge an adapter and write a style report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("adapter", type=Path, help="folder of a finished adapter")
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="rows that were not learned: their questions are asked, and the loss of their "
        "answers is measured (default: those that the adapter's own training held out)",
    )
    parser.add_argument(
        "--prompts", type=int, default=25, metavar="NUMBER", help="prompts to ask (default: 25)"
    )
    parser.add_argument(
        "--output", type=Path, help="folder of the report (default: runs/<adapter's name>/report)"
    )
    add_overrides(parser, "how to load the model: device, base_model, quantization or weights")


def run(arguments: argparse.Namespace) -> int:
    """Judge, write the report, print its verdict."""
    from adapters.manifest import check_adapter
    from training.dataset.rows import opening_questions
    from training.judging.heldout import heldout_rows
    from training.judging.settings import engine_config

    if arguments.prompts < 1:
        raise ValueError(f"--prompts must be at least 1, not {arguments.prompts}")
    config = engine_config(arguments.adapter, arguments.overrides)
    manifest = check_adapter(arguments.adapter)
    rows = heldout_rows(manifest, arguments.data)
    prompts = opening_questions(rows)[: arguments.prompts]

    from training.evaluate import style_report
    from training.report import summary, write_report

    report = style_report(config, prompts, rows)
    folder = arguments.output
    path = write_report(
        report, Path("runs") / manifest.name / "report" if folder is None else folder
    )
    print(summary(report))
    print(f"report written to {path}")
    return 0
