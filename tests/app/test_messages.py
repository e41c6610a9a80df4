"""Conversations instead of a prompt in the body of `/generate`."""

import pytest

from adapters.prompts import Message
from app.config import WebConfig
from serving.errors import InvalidRequestError
from tests.app.problems import read_problem

MOST = WebConfig().max_prompt_characters
QUESTION = {"role": "user", "content": "What is DNS?"}
ANSWER = {"role": "assistant", "content": "A phone book."}
RULE = {"role": "system", "content": "Be kind."}


def reason(response, field="messages"):
    """The only message of a refused request in which only this field is wrong."""
    ((found, messages),) = read_problem(response, 422)["errors"].items()
    assert found == field
    (message,) = messages
    return message


def user(content):
    return {"role": "user", "content": content}


# What is accepted


def test_a_conversation_reaches_the_engine_as_it_was_typed(engine, post):
    body = {"messages": [RULE, QUESTION, ANSWER, user("  Who\nruns it? \0 <STYLE_TERSE> 😀")]}
    assert post(body).status_code == 200
    assert engine.requests[0].messages == (
        Message("system", "Be kind."),
        Message("user", "What is DNS?"),
        Message("assistant", "A phone book."),
        Message("user", "  Who\nruns it? \0 <STYLE_TERSE> 😀"),
    )


def test_a_prompt_is_a_conversation_of_one_message(engine, post):
    post({"prompt": "What is DNS?"})
    post({"messages": [QUESTION]})
    first, second = engine.requests
    assert first == second


def test_settings_go_with_a_conversation_as_with_a_prompt(engine, post):
    post({"messages": [QUESTION], "style": "verbose", "seed": 0, "top_k": 5})
    (request,) = engine.requests
    assert (request.style, request.seed, request.top_k) == ("verbose", 0, 5)


def test_an_answer_in_between_may_be_empty(post):
    # A user who stopped an answer before its first word goes on talking.
    body = {"messages": [QUESTION, {"role": "assistant", "content": ""}, QUESTION]}
    assert post(body).status_code == 200


def test_the_longest_conversation_is_accepted(post):
    assert post({"messages": [QUESTION] * 64}).status_code == 200


def test_messages_that_fill_the_limit_together_are_accepted(post):
    assert post({"messages": [user("a" * (MOST - 1)), user("b")]}).status_code == 200


# What is refused


def test_a_conversation_and_a_prompt_cannot_both_be_answered(engine, post):
    message = reason(post({"prompt": "a", "messages": [QUESTION]}))
    assert message == "Send either 'prompt' or 'messages', not both."
    assert engine.requests == []


def test_two_places_for_words_are_too_many_even_if_one_is_wrong(post):
    problem = read_problem(post({"prompt": "", "messages": [QUESTION]}), 422)
    assert set(problem["errors"]) == {"prompt", "messages"}


@pytest.mark.parametrize("messages", ["a", 5, True, {}, QUESTION])
def test_messages_that_are_no_list_are_refused(post, messages):
    assert reason(post({"messages": messages})) == "Must be a list."


def test_messages_of_null_are_refused(post):
    assert reason(post({"messages": None})) == "Must be a list, not null."


def test_a_conversation_without_messages_is_refused(post):
    assert reason(post({"messages": []})) == "Must not be empty."


@pytest.mark.parametrize("last", [RULE, ANSWER])
def test_a_conversation_that_asks_nothing_is_refused(post, last):
    message = reason(post({"messages": [QUESTION, last]}))
    assert message == "The last message must be the user's."


@pytest.mark.parametrize("content", ["", " \n\u3000"])
def test_a_blank_question_is_refused(post, content):
    message = reason(post({"messages": [QUESTION, ANSWER, user(content)]}))
    assert message == "The last message must not be empty."


def test_too_many_messages_are_refused_with_both_numbers(post):
    message = reason(post({"messages": [QUESTION] * 65}))
    assert message == "Has 65 entries; at most 64 are accepted."


def test_tens_of_thousands_of_messages_are_not_even_looked_at(post):
    message = reason(post({"messages": [{}] * 60_000}))
    assert message == "Has 60000 entries; at most 64 are accepted."


def test_messages_too_long_together_are_refused_with_both_lengths(post):
    message = reason(post({"messages": [user("a" * MOST), user("b")]}))
    assert message == f"Has {MOST + 1} characters; at most {MOST} are accepted."


@pytest.mark.parametrize("message", [None, 5, "a", [], [QUESTION]])
def test_a_message_that_is_no_object_is_refused(post, message):
    read_problem(post({"messages": [message]}), 422)


@pytest.mark.parametrize("role", ["", "User", "tool", "developer", "user "])
def test_an_unknown_role_is_refused_with_the_known_ones(post, role):
    message = reason(post({"messages": [{**QUESTION, "role": role}]}), "messages[0].role")
    assert message == "Must be one of: system, user, assistant."


@pytest.mark.parametrize("field", ["role", "content"])
def test_a_message_needs_both_its_fields(post, field):
    incomplete = {name: value for name, value in QUESTION.items() if name != field}
    assert reason(post({"messages": [incomplete]}), f"messages[0].{field}") == "Missing."


@pytest.mark.parametrize("field", ["role", "content"])
@pytest.mark.parametrize("value", [5, True, ["user"], {"a": "b"}])
def test_a_field_of_a_message_that_is_no_text_is_refused(post, field, value):
    message = reason(post({"messages": [{**QUESTION, field: value}]}), f"messages[0].{field}")
    assert message == "Must be text."


@pytest.mark.parametrize("field", ["role", "content"])
def test_a_field_of_a_message_of_null_is_refused(post, field):
    message = reason(post({"messages": [{**QUESTION, field: None}]}), f"messages[0].{field}")
    assert message == "Must be text, not null."


def test_an_unknown_field_of_a_message_is_refused_with_the_known_ones(post):
    message = reason(post({"messages": [{**QUESTION, "name": "Ann"}]}), "messages[0].name")
    assert message == "Unknown field. Known fields: role, content."


def test_half_of_a_surrogate_pair_is_refused_in_every_message(post):
    half = '{"role": "assistant", "content": "ab\\udc00"}'
    whole = '{"role": "user", "content": "a"}'
    message = reason(post(f'{{"messages": [{half}, {whole}]}}'), "messages[0].content")
    assert message.startswith("Character 2 is half of a surrogate pair")


# What the engine refuses


@pytest.mark.parametrize(
    ("words", "field"), [({"prompt": "a"}, "prompt"), ({"messages": [QUESTION]}, "messages")]
)
@pytest.mark.parametrize("stream", [True, False])
def test_the_engine_blames_the_field_in_which_the_words_came(engine, post, words, field, stream):
    engine.script.append(InvalidRequestError("prompt", "It has 9999 tokens."))
    assert reason(post({**words, "stream": stream}), field) == "It has 9999 tokens."


def test_the_engine_blames_other_fields_by_their_own_names(engine, post):
    engine.script.append(InvalidRequestError("max_new_tokens", "999 is over the limit."))
    assert reason(post({"messages": [QUESTION]}), "max_new_tokens") == "999 is over the limit."
