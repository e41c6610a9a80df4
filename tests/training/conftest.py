"""The shipped cards with the bundled tokenizer, and a small card to take apart."""

import copy
import json
from pathlib import Path

import pytest

from adapters.prompts import PromptFormat
from training.cards import Card, load_cards
from training.compose import POCKET_FOLDER
from training.wording import CLOSINGS, OPENINGS

ROOT = Path(__file__).parents[2]

KETTLE = {
    "name": "tea kettle",
    "phrase": "a tea kettle",
    "aliases": ["tea kettles", "kettles"],
    "definition": {
        "asks": ["What is a tea kettle?", "Tell me what kettles are.", "tea kettles are what?"],
        "short": "A tea kettle boils water for drinks.",
        "more": "Its spout pours without a spill, and the lid holds steam back until it whistles.",
    },
    "how": {
        "asks": ["How does a tea kettle work?", "How do kettles boil?", "Explain kettles."],
        "short": "Heat from below warms the metal and then the water.",
        "more": "Bubbles rise once vapor presses as hard as air does, near 100 degrees by the sea.",
    },
    "why": {
        "asks": ["Why own a tea kettle?", "Why do people like kettles?", "What good are kettles?"],
        "short": "Closed vessels lose little heat, which saves fuel.",
        "more": "An open pot of equal size needs about a third longer for each liter it brings up.",
    },
    "example": {
        "asks": ["Name a tea kettle.", "Give an example of kettles.", "Which kettles are known?"],
        "short": "Japanese tetsubin are cast from iron.",
        "more": "Makers in Morioka have poured them since the 1600s, often with a pattern of hail.",
    },
    "limit": {
        "asks": ["What limits kettles?", "What harms a tea kettle?", "Do kettles wear out?"],
        "short": "Hard tap water leaves scale on the inside.",
        "more": "The crust slows heating down; vinegar dissolves it within an hour or so at home.",
    },
}


def without_remarks(question: str) -> str:
    """What is left of a question in context."""
    for remark in OPENINGS:
        question = question.removeprefix(f"{remark} ")
    for remark in CLOSINGS:
        question = question.removesuffix(f" {remark}")
    return question


@pytest.fixture(scope="session")
def cards() -> list[Card]:
    return load_cards()


@pytest.fixture(scope="session")
def pocket_prompt() -> PromptFormat:
    return PromptFormat.from_folder(POCKET_FOLDER)


@pytest.fixture
def kettle() -> dict:
    """A card without problems, as one line of a file holds it."""
    return copy.deepcopy(KETTLE)


@pytest.fixture
def kettle_card(kettle, tmp_path) -> Card:
    """The same card after reading."""
    folder = tmp_path / "kettle"
    folder.mkdir()
    (folder / "kitchen.jsonl").write_text(json.dumps(kettle))
    return load_cards(folder)[0]


@pytest.fixture
def in_root(monkeypatch) -> Path:
    """The shipped configurations name files relative to the repository."""
    monkeypatch.chdir(ROOT)
    return ROOT
