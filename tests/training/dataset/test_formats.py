"""Each format, told from its keys and read into the same rows."""

import pytest

from adapters.prompts import Message
from tests.training.dataset.conftest import read, told, write_lines
from training.dataset.formats import format_of

ASKED = {"role": "user", "content": "What is TCP?"}
ANSWERED = {"role": "assistant", "content": "A protocol."}
SYSTEM = {"role": "system", "content": "Be kind."}

SAME_IN_EVERY_FORMAT = {
    "prompt-completion": {"prompt": "What is TCP?", "completion": "A protocol."},
    "messages": {"messages": [ASKED, ANSWERED]},
    "conversations": {
        "conversations": [
            {"from": "human", "value": "What is TCP?"},
            {"from": "gpt", "value": "A protocol."},
        ]
    },
    "alpaca": {"instruction": "What is TCP?", "input": "", "output": "A protocol."},
    "instruction-style": {
        "system": "",
        "instruction": "What is TCP?",
        "output": "A protocol.",
        "style": "terse",
    },
    "preference": {"prompt": "What is TCP?", "chosen": "A protocol.", "rejected": "A cable."},
}


@pytest.mark.parametrize("name", SAME_IN_EVERY_FORMAT)
def test_every_format_is_told_from_its_keys(name):
    assert format_of(SAME_IN_EVERY_FORMAT[name]) == name


@pytest.mark.parametrize("name", SAME_IN_EVERY_FORMAT)
def test_every_format_gives_the_same_row(path, name):
    write_lines(path, SAME_IN_EVERY_FORMAT[name])

    [row], problems = read(path)

    assert row.messages == (Message("user", "What is TCP?"),)
    assert (row.prompt, row.completion, row.style) == ("What is TCP?", "A protocol.", "terse")
    assert row.rejected == ("A cable." if name == "preference" else None)
    assert told(problems, "refused") == []


@pytest.mark.parametrize("key", ["system", "style"])
def test_an_instruction_with_a_style_or_a_system_message_is_no_plain_alpaca(key):
    assert format_of({"instruction": "Hi.", "output": "Hello.", key: ""}) == "instruction-style"


@pytest.mark.parametrize("row", [{}, {"text": "a"}, {"question": "a", "answer": "b"}, [], None])
def test_other_keys_belong_to_no_format(row):
    assert format_of(row) is None


def test_the_format_of_most_rows_decides_and_the_others_are_refused(path):
    write_lines(
        path,
        {"messages": [ASKED, ANSWERED]},
        {"prompt": "What is UDP?", "completion": "A protocol."},
        {"prompt": "What is IP?", "completion": "A protocol."},
    )

    rows, problems = read(path)

    assert [row.line for row in rows] == [2, 3]
    assert told(problems, "refused") == [(1, "another format")]
    assert "messages" in problems.found[0].text


def test_a_given_format_counts_more_than_the_keys(path):
    write_lines(path, {"messages": [ASKED, ANSWERED], "prompt": "a", "completion": "b"})

    rows, problems = read(path, data_format="prompt-completion")

    assert rows == []
    assert told(problems, "refused") == [(1, "another format")]


def test_unknown_keys_are_answered_with_the_known_formats(path):
    write_lines(path, {"question": "a"}, {"answer": "b"})

    rows, problems = read(path)

    assert rows == []
    [problem] = problems.found
    assert (problem.severity, problem.kind) == ("fatal", "unknown format")
    assert "(answer, question)" in problem.text
    assert "alpaca (system, instruction, input, output, style)" in problem.text


def test_a_key_that_a_foreign_format_does_not_use_is_told_once(path):
    rows = [{"messages": [{**ASKED, "content": f"{n}?"}, ANSWERED], "id": n} for n in range(3)]
    write_lines(path, *rows)

    found, problems = read(path)

    assert len(found) == 3
    [problem] = [p for p in problems.found if p.kind == "unused key"]
    assert (problem.line, problem.text) == (0, "the key 'id' is not used (3 rows)")


# Instructions


def test_an_input_stands_below_its_instruction(path):
    write_lines(path, {"instruction": "Add up.", "input": "1 and 2", "output": "3"})

    [row], _ = read(path)

    assert row.prompt == "Add up.\n\n1 and 2"


def test_an_instruction_may_have_a_system_message_and_a_style(path):
    row = {"system": "Be kind.", "instruction": "Hi.", "output": "Hello!", "style": "verbose"}
    write_lines(path, row)

    [row], _ = read(path)

    assert row.messages == (Message("system", "Be kind."), Message("user", "Hi."))
    assert (row.style, row.style_origin) == ("verbose", "named")


@pytest.mark.parametrize("name", ["instruction", "output"])
@pytest.mark.parametrize(("value", "kind"), [(None, "null content"), (" ", "empty content")])
def test_instruction_and_output_must_say_something(path, name, value, kind):
    write_lines(path, {"instruction": "Hi.", "output": "Hello!", "input": "", name: value})

    rows, problems = read(path)

    assert rows == []
    assert told(problems, "refused") == [(1, kind)]


# Pairs


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [SYSTEM, ASKED], "chosen": [ANSWERED], "rejected": "A cable."},
        {"prompt": [SYSTEM, ASKED], "chosen": "A protocol.", "rejected": "A cable."},
        {
            "chosen": [SYSTEM, ASKED, ANSWERED],
            "rejected": [SYSTEM, ASKED, {**ANSWERED, "content": "A cable."}],
        },
    ],
    ids=["lists", "a list and texts", "shared beginning"],
)
def test_pairs_may_be_lists_of_messages(path, row):
    write_lines(path, row)

    [row], problems = read(path)

    assert row.messages == (Message("system", "Be kind."), Message("user", "What is TCP?"))
    assert (row.completion, row.rejected) == ("A protocol.", "A cable.")
    assert told(problems, "refused") == []


def test_answers_that_repeat_the_prompt_lose_it(path):
    row = {"prompt": "What is TCP?", "chosen": [ASKED, ANSWERED], "rejected": "A cable."}
    write_lines(path, row)

    [row], _ = read(path)

    assert row.messages == (Message("user", "What is TCP?"),)
    assert row.completion == "A protocol."


def test_two_answers_that_are_the_same_are_no_pair(path):
    write_lines(path, {"prompt": "What is TCP?", "chosen": "A.", "rejected": "A."})

    rows, problems = read(path)

    assert rows == []
    assert told(problems, "refused") == [(1, "contradiction")]
    assert "'chosen' and 'rejected' are the same" in problems.found[0].text


def test_of_a_pair_only_the_last_answer_is_learned(path):
    prompt = [ASKED, ANSWERED, {**ASKED, "content": "And UDP?"}]
    write_lines(path, {"prompt": prompt, "chosen": "Another one.", "rejected": "A hat."})

    [row], _ = read(path, turns="all")

    assert len(row.messages) == 3
    assert row.completion == "Another one."


@pytest.mark.parametrize("name", ["chosen", "rejected"])
def test_both_answers_of_a_pair_must_say_something(path, name):
    write_lines(path, {"prompt": "Hi.", "chosen": "A.", "rejected": "B.", name: ""})

    rows, problems = read(path)

    assert rows == []
    assert told(problems, "refused") == [(1, "empty content")]


def test_a_prompt_of_messages_ends_with_the_user(path):
    write_lines(path, {"prompt": [ASKED, ANSWERED], "completion": "And a cable."})

    rows, problems = read(path)

    assert rows == []
    assert told(problems, "refused") == [(1, "no question")]
