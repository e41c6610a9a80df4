"""Small files in the formats that people have, and a prompt format with style tokens."""

import json
from pathlib import Path

import pytest

from adapters.prompts import PromptFormat
from training.compose import POCKET_FOLDER
from training.config import TrainConfig
from training.dataset.problems import Problems
from training.dataset.reader import read_rows
from training.dataset.rows import Row

STYLES = ("terse", "verbose")


def write_lines(path: Path, *rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, *, styles=STYLES, **settings) -> tuple[list[Row], Problems]:
    """The rows of a file, and what was found wrong with it."""
    problems = Problems(path.name)
    rows, _ = read_rows(str(path), styles, problems, **settings)
    return rows, problems


def told(problems: Problems, severity: str) -> list[tuple[int, str]]:
    """Line and kind of the problems of one severity."""
    return [(p.line, p.kind) for p in problems.found if p.severity == severity]


def settings(path: Path, **values) -> TrainConfig:
    return TrainConfig(name="data", base_model="", train_data=str(path), **values)


def styled_prompt(**changes) -> PromptFormat:
    """The bundled tokenizer with both style tokens in place of two reserved ones."""
    tokenizer = (POCKET_FOLDER / "tokenizer.json").read_text(encoding="utf-8")
    for reserved, style in (("[control_8]", "<STYLE_TERSE>"), ("[control_9]", "<STYLE_VERBOSE>")):
        assert f'"{reserved}"' in tokenizer
        tokenizer = tokenizer.replace(f'"{reserved}"', f'"{style}"')
    bundled = PromptFormat.from_folder(POCKET_FOLDER)
    template = changes.get("chat_template", bundled.chat_template)
    return PromptFormat(tokenizer, template, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "rows.jsonl"


@pytest.fixture(scope="session")
def prompt() -> PromptFormat:
    return styled_prompt()
