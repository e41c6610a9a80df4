"""`merge`: one complete model from an adapter and its base, for programs that read no adapters."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.shipping.merge import MergeRequest

HELP = "merge an adapter into its base: one complete model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("adapter", type=Path, help="folder of a finished adapter")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder to write; must not exist"
    )
    parser.add_argument(
        "--base-model", default="", help="folder or hub id, if not where the adapter says"
    )
    parser.add_argument(
        "--from",
        dest="source",
        choices=("bf16", "nf4"),
        default="bf16",
        help="the base as published, or the values of its 4-bit weights, as the adapter was "
        "trained and is served (default: bf16)",
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "bfloat16", "float16", "float32"),
        default="auto",
        help="precision of the result (default: that of the published base)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cuda", "mps", "cpu"),
        default="cpu",
        help="where to compute; a 7B model takes 17 GB there (default: cpu)",
    )


def read_request(arguments: argparse.Namespace) -> MergeRequest:
    """The request that the options stand for."""
    from training.shipping.merge import MergeRequest

    return MergeRequest(
        adapter=arguments.adapter,
        output=arguments.output,
        base_model=arguments.base_model,
        source=arguments.source,
        dtype=arguments.dtype,
        device=arguments.device,
    )


def run(arguments: argparse.Namespace) -> int:
    """Merge; the folder is complete when this returns."""
    from training.shipping.merge import merge

    report = merge(read_request(arguments))
    print(report.describe())
    print(f"model written to {arguments.output}")
    return 0
