"""Chats as data sets have them: what becomes an example, and what cannot be learned."""

import json

import pytest

from adapters.prompts import Message
from tests.training.dataset.conftest import read, told, write_lines

SPEAKERS = {"s": "system", "u": "user", "a": "assistant"}


def chat(order, **changes):
    """A row whose messages are told by one letter each, as in 'suaua'."""
    messages = [
        {"role": SPEAKERS[letter], "content": f"{letter}{number}"}
        for number, letter in enumerate(order)
    ]
    return {"conversations": messages, **changes}


def with_message(**message):
    """A row whose answer is replaced."""
    row = chat("ua")
    row["conversations"][1] = message
    return row


def refused(path, *rows):
    write_lines(path, *rows)
    found, problems = read(path)
    assert found == []
    return [kind for _, kind in told(problems, "refused")]


@pytest.mark.parametrize(
    ("role", "expected"),
    [("human", "user"), ("user", "user"), ("prompter", "user"), ("developer", "system")],
)
def test_roles_of_other_tools_are_understood(path, role, expected):
    row = chat("ua")
    row["conversations"].insert(0, {"from": role, "value": "First."})
    write_lines(path, row)

    [row], _ = read(path)

    assert row.messages[0].role == expected
    assert row.messages[0].content.startswith("First.")


def test_every_answer_is_an_example_with_all_that_was_said_before(path):
    write_lines(path, chat("suaua"))

    rows, _ = read(path, turns="all")

    said = [[message.content for message in row.messages] for row in rows]
    assert said == [["s0", "u1"], ["s0", "u1", "a2", "u3"]]
    assert [row.completion for row in rows] == ["a2", "a4"]


def test_only_the_last_answer_is_learned_on_request(path):
    write_lines(path, chat("uaua"))

    [row], _ = read(path, turns="last")

    assert row.completion == "a3"
    assert len(row.messages) == 3


def test_each_answer_has_the_style_that_its_own_question_asks_for(path):
    row = chat("uauaua")
    row["conversations"][2]["content"] = "Something detailed, please."
    row["conversations"][4]["content"] = "Now briefly."
    write_lines(path, row)

    rows, _ = read(path)

    assert [(row.style, row.style_origin) for row in rows] == [
        ("terse", "default"),
        ("verbose", "words"),
        ("terse", "words"),
    ]


@pytest.mark.parametrize("label", [True, None])
def test_a_label_goes_with_every_answer_of_a_good_conversation(path, label):
    write_lines(path, chat("uaua", label=label))

    rows, _ = read(path)

    assert [row.label for row in rows] == [label, label]


def test_of_a_bad_conversation_only_the_last_answer_is_meant(path):
    write_lines(path, chat("uaua", label=False))

    [row], _ = read(path)

    assert (row.completion, row.label) == ("a3", False)


def test_a_system_text_beside_the_list_comes_first(path):
    write_lines(path, chat("ua", system="Be kind."))

    [row], _ = read(path)

    assert row.messages[0] == Message("system", "Be kind.")


def test_two_messages_of_the_user_in_a_row_become_one(path):
    write_lines(path, chat("uuua"))

    [row], problems = read(path)

    assert row.messages == (Message("user", "u0\n\nu1\n\nu2"),)
    assert [k for _, k in told(problems, "notice")] == ["two users in a row"] * 2 + [
        "style by default"
    ]


def test_a_question_that_nobody_answered_is_left_out(path):
    write_lines(path, chat("uau"))

    [row], problems = read(path)

    assert row.completion == "a1"
    assert (1, "unanswered question") in told(problems, "notice")


# What cannot be learned


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (chat("au"), "assistant first"),
        (chat("saua"), "assistant first"),
        (chat("s"), "assistant first"),
        (chat("uaa"), "two answers in a row"),
        (chat("uasua"), "late system message"),
        (chat("ssua"), "late system message"),
        (chat("u"), "no answer"),
        (chat(""), "no messages"),
        ({"conversations": None}, "no messages"),
        ({"conversations": "hello"}, "no messages"),
        ({"conversations": ["hello"]}, "no messages"),
        (chat("ua", label=1), "wrong label"),
        (chat("ua", style="loud"), "unknown style"),
        (with_message(role="assistant", content=None), "null content"),
        (with_message(role="assistant"), "null content"),
        (with_message(role="assistant", content="  "), "empty content"),
        (with_message(role="assistant", content=["a"]), "content that is no text"),
        (with_message(role="assistant", content=None, tool_calls=[{"id": 1}]), "tool call"),
        (with_message(role="assistant", content="a", function_call={"name": "f"}), "tool call"),
        (with_message(role="tool", content="a"), "tool result"),
        (with_message(role="ipython", content="a"), "tool result"),
        (with_message(role="narrator", content="a"), "unknown role"),
        (with_message(role=None, content="a"), "unknown role"),
        (with_message(role=["user"], content="a"), "unknown role"),
        (with_message(content="a"), "unknown role"),
    ],
)
def test_a_conversation_is_refused_for_its_reason(path, row, kind):
    assert refused(path, row) == [kind]


def test_all_reasons_of_a_row_are_told_with_the_number_of_the_message(path):
    row = chat("uaua")
    row["conversations"][1] = {"role": "tool", "content": "a"}
    row["conversations"][3]["content"] = ""
    write_lines(path, chat("ua"), row)

    rows, problems = read(path)

    assert len(rows) == 1
    assert told(problems, "refused") == [(2, "tool result"), (2, "empty content")]
    assert str(problems.found[0]).startswith("rows.jsonl:2: 'conversations'[1] is of the role")


def test_empty_tool_calls_are_none(path):
    write_lines(path, with_message(role="assistant", content="a", tool_calls=[]))

    rows, _ = read(path)

    assert len(rows) == 1


@pytest.mark.parametrize("text", ["tool_call: search", "Sure.\n<tool_call>{}", "[TOOL_CALLS] []"])
def test_a_tool_call_written_as_text_is_learned_and_told(path, text):
    write_lines(path, with_message(role="assistant", content=text))

    [row], problems = read(path)

    assert row.completion == text
    assert (1, "tool call as text") in told(problems, "notice")


# Damaged words


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a\x00b", "control character"),
        ("a\x14b", "control character"),
        ("a\x9db", "control character"),
        ("GrÃ¶ÃŸe", "wrong encoding"),
        ("itâ€™s", "wrong encoding"),
        ("gr\ufffd\ufffdn", "wrong encoding"),
        ("[INST] Hi [/INST]", "template in the words"),
        ("Hello</s>", "template in the words"),
        ("<|im_start|>user", "template in the words"),
        ("<STYLE_TERSE> hi", "template in the words"),
    ],
)
def test_words_that_look_damaged_are_kept_and_told(path, text, kind):
    write_lines(path, with_message(role="assistant", content=text))

    [row], problems = read(path)

    assert row.completion == text
    assert (1, kind) in told(problems, "notice")


@pytest.mark.parametrize("text", ["größer\n\ttab\x85", "Ångström", "a < b > c", "👩‍💻", "naïve Ã"])
def test_words_that_are_all_right_are_not_told(path, text):
    write_lines(path, with_message(role="assistant", content=text))

    _, problems = read(path)

    assert told(problems, "notice") == [(0, "style by default")]


def test_half_a_surrogate_pair_is_refused(path):
    path.write_text(json.dumps(with_message(role="assistant", content="half \ud83d")))

    rows, problems = read(path)

    assert rows == []
    assert told(problems, "refused") == [(1, "half a surrogate pair")]
