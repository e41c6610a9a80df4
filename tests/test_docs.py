"""What the documents say is so: commands, targets, settings, paths."""

import dataclasses
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from app.config import WebConfig
from serving.config import EngineConfig
from serving.environment import PREFIX
from training.__main__ import COMMANDS, build_parser
from training.config_file import load_config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRAINING_PAGE = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def commands(text: str = README) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


TRAINING_COMMANDS = [
    command for command in commands(README + TRAINING_PAGE) if "-m training" in command
]


@pytest.mark.parametrize("command", [c for c in commands() if re.search(r"\bmake\b", c)])
def test_every_make_target_of_the_readme_exists(command):
    words = shlex.split(command, comments=True)
    target = words[words.index("make") + 1]

    assert target in TARGETS


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize("command", TRAINING_COMMANDS)
def test_every_training_command_of_the_documentation_parses(command):
    words = shlex.split(command, comments=True)
    arguments = build_parser().parse_args(words[words.index("training") + 1 :])

    if getattr(arguments, "config", None) is not None:
        load_config(arguments.config, arguments.overrides)
    for name in ("file", "data"):
        named = getattr(arguments, name, None)
        assert named is None or Path(named).is_file()


def test_the_documentation_shows_every_training_command():
    shown = {shlex.split(c)[shlex.split(c).index("training") + 1] for c in TRAINING_COMMANDS}
    assert shown == set(COMMANDS)


@pytest.fixture
def in_root(monkeypatch):
    """The documented commands name files relative to the repository."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("command", [c for c in commands() if "/generate" in c])
def test_every_curl_of_the_readme_is_a_valid_request(command):
    from app.schemas import GenerateRequestSchema

    words = shlex.split(command)
    body = words[words.index("-d") + 1]
    fields = __import__("json").loads(body)

    assert set(fields) <= set(GenerateRequestSchema._declared_fields)


def test_every_kind_of_command_in_the_readme_is_covered_here():
    known = ("make", "curl", ".venv/bin/python -m training", "LACONIC_ADAPTER=")

    assert not [command for command in commands() if not command.startswith(known)]


def test_every_setting_of_the_server_stands_in_the_readme():
    fields = (*dataclasses.fields(EngineConfig), *dataclasses.fields(WebConfig))
    names = {PREFIX + field.name.upper() for field in fields}

    assert names <= set(re.findall(r"LACONIC_[A-Z_]+", README))


def test_every_path_of_the_tree_in_the_readme_exists():
    tree = README.split("## Where things are")[1]
    paths = re.findall(r"^([\w./]+)  +\S", tree, re.MULTILINE)

    assert len(paths) >= 9
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_make_help_lists_every_target():
    # make adds lines of its own when another make started it, as `make test` does
    command = ["make", "--no-print-directory", "help"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert {line.split()[0] for line in output.stdout.splitlines() if line} == TARGETS


def test_the_data_card_holds_todays_figures():
    from adapters.prompts import PromptFormat
    from training import compose, data_card
    from training.cards import load_cards
    from training.dataset.reader import load_rows

    files = {}
    for path in (compose.PAIRS_FILE, compose.HELDOUT_FILE):
        rows = load_rows(path, ("terse", "verbose"))
        files[path.name] = [vars(row) for row in rows]
    prompt = PromptFormat.from_folder(compose.POCKET_FOLDER)

    card = (ROOT / "training" / "data" / "README.md").read_text(encoding="utf-8")
    assert data_card.describe(load_cards(), files, prompt) in card


def test_the_pocket_base_was_trained_on_todays_cards():
    import json

    from training.cards import load_cards
    from training.pocket.corpus import corpus_sha256

    record = json.loads((ROOT / "models" / "pocket" / "pretraining.json").read_text())

    assert record["corpus_sha256"] == corpus_sha256(load_cards())
