"""The rows to learn: read, encoded and counted as the trainer does it."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from adapters.prompts import PromptFormat
from training.config import TrainConfig
from training.dataset.load import Examples, examine, obstacles
from training.dataset.problems import Problem
from training.resources.checkup.finding import Finding
from training.style_tokens import prepare_tokenizer

_NUM_SHOWN = 3


def check_data(config: TrainConfig, base_folder: Path) -> tuple[Examples | None, list[Finding]]:
    """The examples if a run can learn from them, and what the data report holds."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare_tokenizer(base_folder, config.styles, folder)
        examples = examine(config, PromptFormat.from_folder(folder))
    blocking = obstacles(examples.report, config)
    if blocking:
        text = f"{len(blocking)} problems: {_first(blocking)}"
        return None, [Finding("problem", "data", text, _fix(config, blocking))]
    styles = ", ".join(f"{n} {name}" for name, n in examples.report.train.num_examples.items())
    text = f"{len(examples.train_rows)} examples to learn ({styles}), "
    text += f"{len(examples.heldout_rows)} held out"
    findings = [Finding("ok", "data", text)]
    if examples.report.problems:
        kinds = Counter(problem.kind for problem in examples.report.problems)
        told = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
        text = f"not all rows are used as they are: {told}; {_first(examples.report.problems)}"
        fix = f"see them all: python -m training data check {config.train_data}"
        findings.append(Finding("warning", "data", text, fix))
    return examples, findings


def _first(problems: list[Problem] | tuple[Problem, ...]) -> str:
    shown = "; ".join(str(problem) for problem in problems[:_NUM_SHOWN])
    return shown + ("; …" if len(problems) > _NUM_SHOWN else "")


def _fix(config: TrainConfig, problems: list[Problem]) -> str:
    fix = f"see them all: python -m training data check {config.train_data}"
    if all(problem.severity == "refused" for problem in problems):
        fix += "; or leave such rows out with on_bad_row=skip"
    return fix
