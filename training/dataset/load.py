"""From the configured data to examples: the one way that the trainer and `data` have."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from datasets import Dataset

from adapters.prompts import PromptFormat
from training.config import TrainConfig
from training.dataset.encode import Encoded, encode
from training.dataset.methods import usable_rows
from training.dataset.problems import Problem, Problems, count_kinds
from training.dataset.reader import read_rows
from training.dataset.report import DataReport, SourceReport, report_part
from training.dataset.rows import DataError, Row, opening_questions
from training.dataset.sources import source_name
from training.dataset.split import split, without_leaks

_TOLD = 50
"""Problems that an error lists one by one."""


@dataclass(frozen=True)
class Examples:
    """What a run learns and what it measures."""

    train: Dataset
    """Ids to learn, in the columns of `encode.COLUMNS`."""
    heldout: Dataset
    """Ids to measure; may be empty."""
    train_rows: tuple[Row, ...]
    """The same examples in words, one by one."""
    heldout_rows: tuple[Row, ...]
    report: DataReport

    @property
    def heldout_questions(self) -> list[str]:
        """Questions that are not learned, every one once."""
        return opening_questions(self.heldout_rows)


@dataclass
class _Reading:
    """One source on its way."""

    rows: list[Row]
    report: SourceReport
    problems: Problems
    left_out: Counter[str]

    def final_report(self) -> SourceReport:
        """With the rows that were refused since the source was read."""
        return dataclasses.replace(self.report, num_refused=len(self.problems.refused_lines))


def load_examples(config: TrainConfig, prompt: PromptFormat) -> Examples:
    """Everything that the configured method can use of the configured data.

    Raises:
        DataError: listing the rows that cannot be used unless `on_bad_row` is skip, and in any case
            what leaves nothing to train.
    """
    examples = examine(config, prompt)
    if problems := obstacles(examples.report, config):
        lines = [str(problem) for problem in problems[:_TOLD]]
        if len(problems) > _TOLD:
            kinds = ", ".join(f"{kind} ({n:,})" for kind, n in count_kinds(problems).items())
            lines.append(f"and {len(problems) - _TOLD:,} more; in all: {kinds}")
            lines.append("python -m training data check --all lists them")
        if any(problem.severity == "refused" for problem in problems):
            lines.append("on_bad_row=skip leaves out the rows that cannot be used")
        raise DataError("\n".join(lines))
    return examples


def obstacles(report: DataReport, config: TrainConfig) -> list[Problem]:
    """The problems that keep a run from starting."""
    fatal = ("fatal",) if config.on_bad_row == "skip" else ("fatal", "refused")
    return [problem for problem in report.problems if problem.severity in fatal]


def examine(config: TrainConfig, prompt: PromptFormat) -> Examples:
    """As `load_examples`, but whatever is wrong is told in the report only."""
    began = time.perf_counter()
    readings = [_read(config.train_data, config)]
    if config.heldout_data is None:
        learned, measured = split(readings[0].rows, config.validation_share, config.seed)
        if config.validation_share > 0 and learned and not measured:
            text = "holds a single question, so that none can be split off to be measured"
            readings[0].problems.notice(0, "no split", text)
    else:
        readings.append(_read(config.heldout_data, config))
        learned = readings[0].rows
        measured = without_leaks(
            readings[1].rows, learned, readings[0].report.name, readings[1].problems
        )
    train = encode(learned, config, prompt, readings[0].problems)
    heldout = encode(measured, config, prompt, readings[-1].problems)
    _check_yield(readings, train, heldout)
    return Examples(
        train=Dataset.from_dict(train.columns),
        heldout=Dataset.from_dict(heldout.columns),
        train_rows=tuple(train.rows),
        heldout_rows=tuple(heldout.rows),
        report=DataReport(
            sources=tuple(reading.final_report() for reading in readings),
            train=report_part(train, config.style_names),
            heldout=report_part(heldout, config.style_names),
            left_out=dict(sum((reading.left_out for reading in readings), Counter[str]())),
            problems=tuple(problem for reading in readings for problem in reading.problems.found),
            seconds=time.perf_counter() - began,
        ),
    )


def _read(source: str, config: TrainConfig) -> _Reading:
    problems = Problems(source_name(source))
    rows, report = read_rows(source, config.style_names, problems, config.data_format, config.turns)
    rows, left_out = usable_rows(rows, config.method, problems)
    return _Reading(rows, report, problems, left_out)


def _check_yield(readings: Sequence[_Reading], train: Encoded, heldout: Encoded) -> None:
    """Data that yields nothing is an error, if nothing else has been called one."""
    parts = [(readings[0], train, "learn")]
    if len(readings) > 1:
        parts.append((readings[1], heldout, "measure"))
    for reading, encoded, purpose in parts:
        problems = reading.problems
        if not encoded.rows and all(found.severity != "fatal" for found in problems.found):
            reasons = [f"{reason}: {count}" for reason, count in reading.left_out.items()]
            refused = f"rows that cannot be used: {len(problems.refused_lines)}"
            told = "; ".join([refused, *reasons])
            problems.stop(0, "nothing left", f"yields nothing to {purpose} ({told})")
