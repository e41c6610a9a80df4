"""`doctor`: finds out whether a run can work here, and what memory and time it will take."""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.commands.settings import add_settings, read_settings

if TYPE_CHECKING:
    from training.resources.checkup.finding import Finding

HELP = "look for what would keep a run from working"
_SIGNS = {"ok": "OK     ", "warning": "WARNING", "problem": "PROBLEM"}
_WIDTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_settings(parser)
    parser.add_argument(
        "--trial", action="store_true", help="train one step too, and measure memory and time"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 if one of them is a problem."""
    config = read_settings(arguments)
    from training.resources.doctor import examine

    findings = examine(config, trial=arguments.trial)
    healthy = all(finding.level != "problem" for finding in findings)
    if arguments.json:
        plain = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps({"healthy": healthy, "findings": plain}, indent=2, ensure_ascii=False))
    else:
        print(to_text(findings))
    return 0 if healthy else 1


def to_text(findings: Sequence[Finding]) -> str:
    """The findings for people, one below the other, and how many of each kind there are."""
    lines = []
    for finding in findings:
        head = f"{_SIGNS[finding.level]}  {finding.subject:<10}  "
        lines += _wrap(finding.text, head)
        if finding.fix:
            lines += _wrap(finding.fix, " " * len(head) + "-> ")
    counts = [sum(finding.level == level for finding in findings) for level in _SIGNS]
    lines.append("\nfine: {}, warnings: {}, problems: {}".format(*counts))
    return "\n".join(lines)


def _wrap(text: str, head: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        width=_WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
