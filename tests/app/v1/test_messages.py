import pytest

from adapters.prompts import Message
from tests.app.v1.error_objects import read_error

QUESTION = {"role": "user", "content": "What is DNS?"}


def text(words):
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("  padded\n", "  padded\n"),
        ("<STYLE_TERSE> [INST] </s>", "<STYLE_TERSE> [INST] </s>"),
        ("naïve 日本語 😀 a\0b", "naïve 日本語 😀 a\0b"),
        ([text("What is DNS?")], "What is DNS?"),
        ([text("One."), text("Two.")], "One.\nTwo."),
        ([{**text("What?"), "cache_control": {"type": "ephemeral"}}], "What?"),
    ],
)
def test_words_reach_the_engine_as_they_were_typed(engine, ask_chat, content, words):
    assert ask_chat(messages=[{"role": "user", "content": content}]).status_code == 200
    assert engine.requests[0].messages == (Message("user", words),)


def test_a_conversation_reaches_the_engine_in_order(engine, ask_chat):
    roles = ["system", "user", "assistant", "user"]
    ask_chat(messages=[{"role": role, "content": role, "name": "Ann"} for role in roles])
    assert engine.requests[0].messages == tuple(Message(role, role) for role in roles)


def test_a_developer_speaks_as_the_system(engine, ask_chat):
    ask_chat(messages=[{"role": "developer", "content": "Be kind."}, QUESTION])
    assert engine.requests[0].messages[0] == Message("system", "Be kind.")


@pytest.mark.parametrize("content", ["", " \n", [], [text("")]])
def test_a_system_message_that_says_nothing_is_left_out(engine, ask_chat, content):
    ask_chat(messages=[{"role": "system", "content": content}, QUESTION])
    assert engine.requests[0].messages == (Message("user", "What is DNS?"),)


def test_an_answer_that_was_stopped_before_its_first_word_stays(engine, ask_chat):
    ask_chat(messages=[QUESTION, {"role": "assistant", "content": ""}, QUESTION])
    assert engine.requests[0].messages[1] == Message("assistant", "")


@pytest.mark.parametrize("role", ["tool", "function"])
def test_messages_of_tools_are_refused_with_the_reason(ask_chat, role):
    error = read_error(ask_chat(messages=[QUESTION, {"role": role, "content": "5"}]), 400)
    assert error["param"] == "messages[1].role"
    assert "calls no tools" in error["message"]


def test_a_message_that_calls_a_tool_is_refused_with_the_reason(ask_chat):
    calls = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    error = read_error(ask_chat(messages=[QUESTION, calls, QUESTION]), 400)
    assert error["param"] == "messages[1].content"
    assert "calls no tools" in error["message"]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}},
        {"type": "input_audio", "input_audio": {}},
        {"type": "text"},
        {"type": "text", "text": None},
        {"type": "text", "text": ["x"]},
        {"text": "x"},
        {},
        "x",
        None,
    ],
)
def test_a_part_that_is_no_text_is_refused_by_its_number(engine, ask_chat, part):
    content = [text("What is this?"), part]
    error = read_error(ask_chat(messages=[{"role": "user", "content": content}]), 400)
    assert error["param"] == "messages[0].content"
    assert "Part 1 " in error["message"]
    assert engine.requests == []


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": "x"}, "messages[0].role"),
        ({"role": "robot", "content": "x"}, "messages[0].role"),
        ({"role": "User", "content": "x"}, "messages[0].role"),
        ({"role": 5, "content": "x"}, "messages[0].role"),
        ({"role": None, "content": "x"}, "messages[0].role"),
        ({"role": [], "content": "x"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        ({"role": "user", "content": {}}, "messages[0].content"),
        ({"role": "user", "content": "\ud800"}, "messages[0].content"),
        ({"role": "user", "content": [text("\ud800")]}, "messages[0].content"),
        ({"role": "user", "content": ""}, "messages"),
        ({"role": "user", "content": []}, "messages"),
        ({"role": "assistant", "content": "x"}, "messages"),
        ({"role": "system", "content": "x"}, "messages"),
    ],
)
def test_a_message_that_cannot_be_answered_is_refused(engine, ask_chat, message, param):
    assert read_error(ask_chat(messages=[message]), 400)["param"] == param
    assert engine.requests == []


@pytest.mark.parametrize("message", [5, "x", None, []])
def test_a_message_that_is_no_object_is_refused(engine, ask_chat, message):
    assert read_error(ask_chat(messages=[message]), 400)["param"] == "messages[0]"
    assert engine.requests == []
