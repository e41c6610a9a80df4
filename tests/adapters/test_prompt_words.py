"""Where the words of the last message stand in a prompt."""

import pytest

from adapters.prompts import Message
from tests.adapters.conftest import CONVERSATION, QUESTION

STYLE = "<STYLE_TERSE>"


@pytest.mark.parametrize("style_token", [STYLE, None])
@pytest.mark.parametrize("text", ["What is rate limiting?", "assistant", "user", " \n", "[INST]"])
def test_they_are_the_ids_of_the_words_and_nothing_else(prompt_format, text, style_token):
    messages = [*CONVERSATION[:-1], Message("user", text)]
    ids = prompt_format.encode_prompt(messages, style_token)

    place = prompt_format.find_words(messages, style_token)

    assert ids[place.start : place.stop] == prompt_format.encode_words(text)


def test_what_stands_around_them_does_not_depend_on_them(prompt_format):
    def around(text):
        messages = [*CONVERSATION[:-1], Message("user", text)]
        place = prompt_format.find_words(messages, STYLE)
        ids = prompt_format.encode_prompt(messages, STYLE)
        return ids[: place.start], ids[place.stop :]

    assert around("What is it?") == around("user assistant user") == around("it")


def test_they_are_found_behind_the_style(prompt_format):
    place = prompt_format.find_words(QUESTION, STYLE)

    before = prompt_format.encode_prompt(QUESTION, STYLE)[: place.start]
    assert prompt_format.token_id(STYLE) in before


def test_a_token_is_told_as_the_vocabulary_has_it(prompt_format):
    assert prompt_format.token(prompt_format.token_id(STYLE)) == STYLE
    assert prompt_format.token(prompt_format.num_tokens) is None
