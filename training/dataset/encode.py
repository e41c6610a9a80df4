"""Rows as the ids that a trainer reads: the prompt as the server builds it, then the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.prompts import Example, PromptError, PromptFormat
from training.config import Method, TrainConfig
from training.dataset.problems import Problems
from training.dataset.rows import Row

COLUMNS: dict[Method, tuple[str, ...]] = {
    "sft": ("input_ids", "completion_mask", "style"),
    "dpo": ("prompt_ids", "chosen_ids", "rejected_ids", "style"),
    "kto": ("prompt_ids", "completion_ids", "label", "style"),
}
"""Named as TRL names them."""


@dataclass
class Encoded:
    """Rows that could be encoded, and their ids column by column."""

    rows: list[Row] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    prompt_lengths: list[int] = field(default_factory=list)
    """Tokens before the answer, row by row."""
    answer_lengths: list[int] = field(default_factory=list)
    """Tokens of the answer, its end-of-text not counted."""
    num_cut: int = 0
    """Answers that lost their end."""
    num_skipped: int = 0
    """Rows left out for their length."""


def encode(
    rows: Sequence[Row], config: TrainConfig, prompt: PromptFormat, problems: Problems
) -> Encoded:
    """Encode rows for the configured method; what does not fit is treated as `on_long_row` says."""
    encoded = Encoded(columns={name: [] for name in COLUMNS[config.method]})
    tokens = {style.name: style.token for style in config.styles}
    for row in rows:
        try:
            examples = _examples(row, tokens[row.style], config.method, prompt)
        except PromptError as error:
            problems.refuse(row.line, "chat template", _with_fix(row, str(error)))
            continue
        fitting = [_fit(example, config.max_length) for example in examples]
        if fitting != examples:
            if not _may_go_on(row, examples, config, problems):
                encoded.num_skipped += config.on_long_row == "skip"
                continue
            encoded.num_cut += 1
        _append(encoded, row, fitting, prompt.eos_id)
    return encoded


def _examples(row: Row, token: str, method: Method, prompt: PromptFormat) -> list[Example]:
    """The row's answer and, for a method of pairs, the rejected one."""
    answers = [row.completion]
    if method == "dpo":
        assert row.rejected is not None
        answers.append(row.rejected)
    examples = [prompt.encode_example(row.messages, answer, token) for answer in answers]
    # Without its end-of-text an answer teaches the model never to stop.
    assert all(example.input_ids[-1] == prompt.eos_id for example in examples)
    return examples


def _fit(example: Example, max_length: int) -> Example:
    return Example(example.input_ids[:max_length], example.prompt_length)


def _may_go_on(
    row: Row, examples: Sequence[Example], config: TrainConfig, problems: Problems
) -> bool:
    """Whether a row that is too long is used nevertheless, its answer cut."""
    length = max(len(example.input_ids) for example in examples)
    text = f"has {length} tokens, max_length is {config.max_length}"
    if config.on_long_row == "fail":
        fix = "raise it, or set on_long_row to skip or cut"
        problems.stop(row.line, "too long", f"{text}; {fix}")
        return False
    if config.on_long_row == "skip":
        problems.notice(row.line, "too long", f"{text}; left out")
        return False
    if examples[0].prompt_length >= config.max_length:
        told = f"{text}, and the prompt alone has {examples[0].prompt_length}"
        problems.refuse(row.line, "no room for the answer", told)
        return False
    problems.notice(row.line, "cut", f"{text}; the end of the answer is lost")
    return True


def _append(encoded: Encoded, row: Row, examples: Sequence[Example], eos_id: int) -> None:
    first = examples[0]
    answers = [example.input_ids[example.prompt_length :] for example in examples]
    values = {
        "input_ids": first.input_ids,
        "completion_mask": first.completion_mask,
        "prompt_ids": first.input_ids[: first.prompt_length],
        "chosen_ids": answers[0],
        "completion_ids": answers[0],
        "rejected_ids": answers[-1],
        "label": row.label,
        "style": row.style,
    }
    for name, column in encoded.columns.items():
        column.append(values[name])
    encoded.rows.append(row)
    encoded.prompt_lengths.append(first.prompt_length)
    encoded.answer_lengths.append(len(answers[0]) - (answers[0][-1] == eos_id))


def _with_fix(row: Row, problem: str) -> str:
    if row.messages[0].role != "system":
        return problem
    return (
        f"{problem}. It has a system message: leave it out, put its words in front of the user's "
        "first ones, or take a base whose chat template has one"
    )
