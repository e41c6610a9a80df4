import json

import pytest

from training.cards import CARDS_FOLDER
from training.compose import DATA_FOLDER, HELDOUT_FILE, PAIRS_FILE
from training.data_card import END, START, describe, update


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def rows_of_lengths(style, *lengths):
    # Each "the" with its space is one token of the bundled tokenizer.
    return [{"style": style, "completion": " the" * length} for length in lengths]


def test_the_shipped_data_card_tells_of_the_shipped_data(cards, pocket_prompt):
    files = {path.name: read(path) for path in (PAIRS_FILE, HELDOUT_FILE)}
    tables = describe(cards, files, pocket_prompt)
    assert f"{START}\n{tables}\n{END}" in (DATA_FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_cards_of_every_field_are_counted(cards, pocket_prompt):
    tables = describe(cards, {}, pocket_prompt).splitlines()
    for path in CARDS_FOLDER.glob("*.jsonl"):
        count = sum(card.field == path.stem for card in cards)
        assert f"| {path.stem} | {count} |" in tables
    assert f"| all | {len(cards)} |" in tables


def test_the_lengths_of_each_style_are_told_in_tokens(pocket_prompt):
    rows = [*rows_of_lengths("terse", 9, 1, 5, 3, 7), *rows_of_lengths("verbose", 50, 70)]
    tables = describe([], {"rows.jsonl": rows}, pocket_prompt).splitlines()
    assert tables[-2:] == [
        "| rows.jsonl | terse | 5 | 1 | 3 | 5 | 7 | 9 |",
        "| rows.jsonl | verbose | 2 | 50 | 55 | 60 | 65 | 70 |",
    ]


def test_an_update_replaces_what_stands_between_the_marks_only(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"# Größe\n{START}\nold\n{END}\nThe end.\n", encoding="utf-8")
    update(path, "new")
    update(path, "newer")
    text = path.read_text(encoding="utf-8")
    assert text == f"# Größe\n{START}\nnewer\n{END}\nThe end.\n"


@pytest.mark.parametrize("text", ["", f"{START}\nold\n", f"old\n{END}\n", f"{END}\n{START}\n"])
def test_a_file_without_both_marks_is_left_alone(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="lacks the marks"):
        update(path, "new")
    assert path.read_text() == text
