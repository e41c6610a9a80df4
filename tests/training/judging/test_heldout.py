import json

import pytest

from adapters.prompts import Message
from tests.training.judging.reports import make_manifest
from training.dataset.rows import Row, opening_questions
from training.judging.heldout import heldout_rows


@pytest.fixture
def write(tmp_path):
    def write(name, *prompts):
        path = tmp_path / name
        rows = [{"prompt": prompt, "completion": "Yes.", "style": "terse"} for prompt in prompts]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def test_the_file_that_is_named_is_taken(write):
    manifest = make_manifest(config={"heldout_data": write("own.jsonl", "own?")})

    rows = heldout_rows(manifest, write("named.jsonl", "named?"))

    assert opening_questions(rows) == ["named?"]


def test_otherwise_the_rows_that_training_held_out_are_taken(write):
    config = {"heldout_data": write("own.jsonl", "own?"), "train_data": write("t.jsonl", "t?")}

    assert opening_questions(heldout_rows(make_manifest(config=config))) == ["own?"]


def test_rows_that_training_split_off_are_split_off_again(write):
    prompts = [f"What is number {n}?" for n in range(10)]
    config = {
        "heldout_data": None,
        "train_data": write("t.jsonl", *prompts),
        "validation_share": 0.2,
        "seed": 20,
    }

    found = opening_questions(heldout_rows(make_manifest(config=config)))

    assert len(found) == 2
    assert found == opening_questions(heldout_rows(make_manifest(config=config)))


@pytest.mark.parametrize("config", [{}, {"heldout_data": None, "validation_share": 0}])
def test_training_that_held_out_nothing_needs_a_file(config):
    with pytest.raises(ValueError, match="held out no rows; name a file: --data"):
        heldout_rows(make_manifest(config=config))


def test_rows_in_a_style_of_another_adapter_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a?", "completion": "b", "style": "rude"}\n')

    with pytest.raises(ValueError, match=r"rows.jsonl:1: .*rude"):
        heldout_rows(make_manifest(), str(path))


def test_every_question_is_asked_once_as_its_conversation_began():
    def row(*turns):
        return Row(tuple(Message(role, words) for role, words in turns), "Yes.", "terse")

    rows = [
        row(("system", "Be kind."), ("user", "one?")),
        row(("user", "two?"), ("assistant", "2"), ("user", "and then?")),
        row(("user", "one?")),
    ]

    assert opening_questions(rows) == ["one?", "two?"]
