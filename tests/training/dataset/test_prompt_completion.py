"""The format of the bundled data, line by line."""

import json

import pytest

from adapters.prompts import Message
from tests.training.dataset.conftest import STYLES
from tests.training.dataset.conftest import write_lines as write
from training.dataset.reader import load_rows
from training.dataset.rows import DataError, Row

ROW = {"prompt": "What is TCP?", "completion": "A protocol.", "style": "verbose"}


def problems_of(path, styles=STYLES):
    with pytest.raises(DataError) as caught:
        load_rows(path, styles)
    return str(caught.value).splitlines()


def numbered(number):
    """Rows that differ."""
    return [{**ROW, "prompt": f"What is number {n}?"} for n in range(number)]


def test_a_row_is_read_as_it_stands(path):
    write(path, ROW)
    question = (Message("user", "What is TCP?"),)
    assert load_rows(path, STYLES) == [Row(question, "A protocol.", "verbose", line=1)]


def test_rows_keep_their_order(path):
    write(path, *({**ROW, "prompt": str(number)} for number in range(20)))
    assert [row.prompt for row in load_rows(path, STYLES)] == [str(number) for number in range(20)]


def test_words_keep_their_spaces_and_every_character(path):
    prompt = "  größer\n\t\u2028 😀 \x85 "
    line = json.dumps({**ROW, "prompt": prompt}, ensure_ascii=False)
    path.write_text(line, encoding="utf-8")
    assert load_rows(path, STYLES)[0].prompt == prompt


@pytest.mark.parametrize(
    ("prompt", "style"),
    [
        ("Explain TCP briefly.", "terse"),
        ("A concise word on TCP.", "terse"),
        ("A detailed account of TCP.", "verbose"),
        ("A well-structured text on TCP.", "verbose"),
        ("What is TCP?", "terse"),
    ],
)
@pytest.mark.parametrize("row", [{}, {"style": None}], ids=["none given", "null"])
def test_a_row_without_style_gets_the_one_its_words_ask_for(path, prompt, style, row):
    write(path, {"prompt": prompt, "completion": "A protocol.", **row})
    assert load_rows(path, STYLES)[0].style == style


def test_a_given_style_counts_more_than_the_words(path):
    write(path, {**ROW, "prompt": "Explain TCP briefly."})
    assert load_rows(path, STYLES)[0].style == "verbose"


def test_styles_of_ones_own_are_accepted(path):
    write(path, {**ROW, "style": "pirate"})
    assert load_rows(path, ("pirate",))[0].style == "pirate"


def test_a_row_never_gets_a_style_that_is_not_trained(path):
    write(path, {"prompt": "What is TCP?", "completion": "Arr."})
    [problem] = problems_of(path, ("pirate", "poet"))
    assert problem.startswith("rows.jsonl:1: ")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
def test_line_ends_of_any_system_are_understood(path, end):
    path.write_bytes(end.join(json.dumps(row) for row in numbered(3)).encode())
    assert len(load_rows(path, STYLES)) == 3


def test_a_byte_order_mark_is_allowed(path):
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROW).encode())
    assert len(load_rows(path, STYLES)) == 1


def test_blank_lines_are_skipped_but_counted(path):
    path.write_text(f"\n{json.dumps(ROW)}\n  \t\n\n[]\n")
    assert [problem.split(": ")[0] for problem in problems_of(path)] == ["rows.jsonl:5"]
    first, second = map(json.dumps, numbered(2))
    path.write_text(f"\n{first}\n  \t\n\n{second}\n")
    assert [row.line for row in load_rows(path, STYLES)] == [2, 5]


# What is refused


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nonsense", "not a line of JSON in UTF-8"),
        ('{"prompt": "a"', "not a line of JSON in UTF-8"),
        ("{'prompt': 'a'}", "not a line of JSON in UTF-8"),
        (b"\xff\xfe", "not a line of JSON in UTF-8"),
        ('{"prompt": "\xe9"}'.encode("latin-1"), "not a line of JSON in UTF-8"),
        ("9" * 5000, "not a line of JSON in UTF-8"),
        pytest.param("[" * 100_000, "not a line of JSON in UTF-8", id="deep"),
        ("[]", "a row is a JSON object with prompt, completion"),
        ('"text"', "a row is a JSON object"),
        ("null", "a row is a JSON object"),
        ("NaN", "a row is a JSON object"),
    ],
)
def test_a_line_that_is_no_object_is_refused(path, line, problem):
    line = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(json.dumps(ROW).encode() + b"\n" + line)
    [found] = problems_of(path)
    assert found.startswith(f"rows.jsonl:2: {problem}")


@pytest.mark.parametrize("name", ["prompt", "completion"])
@pytest.mark.parametrize("text", [None, "", " \n\t", 5, True, ["a"], [], {"text": "a"}])
def test_prompt_and_completion_must_be_text(path, name, text):
    write(path, ROW, {**ROW, name: text})
    assert problems_of(path) == [f"rows.jsonl:2: {name!r} must be text that is not empty"]


@pytest.mark.parametrize("name", ["prompt", "completion"])
def test_prompt_and_completion_must_be_there(path, name):
    write(path, {key: value for key, value in ROW.items() if key != name})
    assert problems_of(path) == [f"rows.jsonl:1: {name!r} must be text that is not empty"]


@pytest.mark.parametrize("name", ["prompt", "completion"])
def test_half_a_surrogate_pair_is_refused(path, name):
    path.write_text(json.dumps({**ROW, name: "half \ud83d"}))
    [found] = problems_of(path)
    assert found.startswith(f"rows.jsonl:1: {name!r} holds half of a surrogate pair")


@pytest.mark.parametrize("style", ["rude", "", "TERSE", 0, False, 5, ["terse"], {"name": "terse"}])
def test_an_unknown_style_is_refused_with_the_known_ones(path, style):
    write(path, {**ROW, "style": style})
    assert problems_of(path) == [f"rows.jsonl:1: unknown style {style!r}; known: terse, verbose"]


def test_unknown_keys_are_refused_with_the_known_ones(path):
    write(path, {**ROW, "answer": "A protocol.", "Style": "terse"})
    known = "known: prompt, completion, style, label"
    assert problems_of(path) == [
        f"rows.jsonl:1: unknown key 'Style'; {known}",
        f"rows.jsonl:1: unknown key 'answer'; {known}",
    ]


@pytest.mark.parametrize("label", [0, 1, "true", "false", "", []])
def test_a_label_is_true_or_false(path, label):
    write(path, {**ROW, "label": label})
    assert problems_of(path) == [f"rows.jsonl:1: 'label' must be true or false, not {label!r}"]


def test_all_problems_of_all_rows_are_listed_at_once(path):
    write(path, {"prompt": "", "answer": "x", "style": "rude"}, ROW, {}, 5)
    places = [problem.split(": ")[0] for problem in problems_of(path)]
    assert places == ["rows.jsonl:1"] * 4 + ["rows.jsonl:3"] * 2 + ["rows.jsonl:4"]


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_rows_is_refused(path, content):
    path.write_text(content)
    assert problems_of(path) == ["rows.jsonl: holds no rows"]


def test_a_missing_file_is_refused(path):
    assert problems_of(path) == [f"{path}: there is no such file"]


def test_a_folder_is_no_file(tmp_path):
    assert problems_of(tmp_path) == [f"{tmp_path}: there is no such file"]
