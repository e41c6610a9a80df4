"""`export`: a folder for vLLM, Ollama or llama.cpp, with the styles and their presets."""

from __future__ import annotations

import argparse

from training.commands import merge

HELP = "write a folder for vLLM, Ollama or llama.cpp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes: what `merge` takes, and for whom."""
    parser.add_argument(
        "--to", dest="target", choices=("vllm", "ollama", "gguf"), required=True, help="for whom"
    )
    merge.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Export; the folder is complete when this returns."""
    request = merge.read_request(arguments)
    from training.shipping.export import export

    report = export(request, arguments.target)
    print(report.describe())
    print(f"written to {arguments.output}; its README.md has the commands to go on with")
    return 0
