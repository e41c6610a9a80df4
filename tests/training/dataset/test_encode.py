"""Rows as ids: the server's prompt, then the answer and its end."""

import pytest

from adapters.prompts import Message
from adapters.styles import STYLES, TERSE
from tests.training.dataset.conftest import settings, styled_prompt, told
from training.dataset.encode import encode
from training.dataset.problems import Problems
from training.dataset.rows import Row

QUESTION = Message("user", "What is TCP?")
ROW = Row((QUESTION,), "A protocol.", "terse", line=1)
PAIR = Row((QUESTION,), "A protocol.", "terse", rejected="A cable that is long.", line=1)
CHAT = Row(
    (QUESTION, Message("assistant", "A protocol."), Message("user", "And UDP?")),
    "Another one.",
    "verbose",
    line=1,
)


@pytest.fixture
def problems():
    return Problems("rows.jsonl")


@pytest.fixture
def length(prompt):
    """Tokens of ROW."""
    return len(prompt.encode_example(ROW.messages, ROW.completion, TERSE.token).input_ids)


def token_of(row):
    return {style.name: style.token for style in STYLES}[row.style]


@pytest.mark.parametrize("row", [ROW, CHAT], ids=["question", "chat"])
def test_the_prompt_is_the_one_that_the_server_builds(path, prompt, problems, row):
    encoded = encode([row], settings(path), prompt, problems)

    [ids], [mask] = encoded.columns["input_ids"], encoded.columns["completion_mask"]
    served = prompt.encode_prompt(row.messages, token_of(row))
    assert ids[: len(served)] == served
    assert mask == [0] * len(served) + [1] * (len(ids) - len(served))
    assert ids.count(prompt.token_id(token_of(row))) == 1


def test_the_style_token_stands_before_the_last_words_of_the_user(path, prompt, problems):
    encoded = encode([CHAT], settings(path), prompt, problems)

    [ids] = encoded.columns["input_ids"]
    place = ids.index(prompt.token_id("<STYLE_VERBOSE>"))
    assert "And UDP?" not in prompt.decode(ids[:place])
    assert prompt.decode(ids[place:]).strip().startswith("And UDP?")


@pytest.mark.parametrize("row", [ROW, CHAT], ids=["question", "chat"])
def test_every_answer_ends_with_its_end_of_text(path, prompt, problems, row):
    encoded = encode([row], settings(path), prompt, problems)

    [ids] = encoded.columns["input_ids"]
    assert ids[-1] == prompt.eos_id
    assert prompt.decode(ids).endswith(row.completion)


def test_a_template_that_writes_no_end_of_text_gets_it_too(path, problems):
    prompt = styled_prompt(
        chat_template="{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )

    encoded = encode([ROW], settings(path), prompt, problems)

    assert encoded.columns["input_ids"][0][-1] == prompt.eos_id


def test_columns_of_sft(path, prompt, problems):
    encoded = encode([ROW, CHAT], settings(path), prompt, problems)

    assert list(encoded.columns) == ["input_ids", "completion_mask", "style"]
    assert encoded.columns["style"] == ["terse", "verbose"]


def test_columns_of_dpo(path, prompt, problems):
    encoded = encode([PAIR], settings(path, method="dpo"), prompt, problems)

    [asked], [chosen], [rejected] = (
        encoded.columns[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")
    )
    assert encoded.columns["style"] == ["terse"]
    assert asked == prompt.encode_prompt(PAIR.messages, TERSE.token)
    assert prompt.decode(chosen).strip() == "A protocol."
    assert prompt.decode(rejected).strip() == "A cable that is long."
    assert chosen[-1] == rejected[-1] == prompt.eos_id


def test_columns_of_kto(path, prompt, problems):
    row = Row((QUESTION,), "A protocol.", "terse", label=False, line=1)

    encoded = encode([row], settings(path, method="kto"), prompt, problems)

    assert list(encoded.columns) == ["prompt_ids", "completion_ids", "label", "style"]
    assert encoded.columns["label"] == [False]
    [answer] = encoded.columns["completion_ids"]
    assert prompt.decode(answer).strip() == "A protocol."


def test_lengths_count_the_answer_without_its_end_of_text(path, prompt, problems, length):
    encoded = encode([ROW], settings(path), prompt, problems)

    assert encoded.prompt_lengths == [len(prompt.encode_prompt(ROW.messages, TERSE.token))]
    assert encoded.answer_lengths == [length - encoded.prompt_lengths[0] - 1]


# Rows that do not fit


def test_a_row_of_exactly_the_length_fits(path, prompt, problems, length):
    encoded = encode([ROW], settings(path, max_length=length), prompt, problems)

    assert len(encoded.rows) == 1
    assert problems.found == []


def test_a_longer_row_stops_the_run(path, prompt, problems, length):
    encode([ROW], settings(path, max_length=length - 1), prompt, problems)

    assert told(problems, "fatal") == [(1, "too long")]
    assert f"has {length} tokens, max_length is {length - 1}" in problems.found[0].text


def test_a_longer_row_is_left_out_and_counted_on_request(path, prompt, problems, length):
    config = settings(path, max_length=length - 1, on_long_row="skip")

    encoded = encode([ROW, ROW], config, prompt, problems)

    assert (encoded.rows, encoded.num_skipped, encoded.num_cut) == ([], 2, 0)
    assert told(problems, "notice") == [(1, "too long")] * 2


def test_a_longer_row_loses_its_end_on_request(path, prompt, problems, length):
    config = settings(path, max_length=length - 2, on_long_row="cut")

    encoded = encode([ROW], config, prompt, problems)

    [ids], [mask] = encoded.columns["input_ids"], encoded.columns["completion_mask"]
    assert len(ids) == len(mask) == length - 2
    assert ids[-1] != prompt.eos_id
    assert (encoded.num_cut, encoded.num_skipped) == (1, 0)
    assert told(problems, "notice") == [(1, "cut")]
    assert encoded.answer_lengths == [sum(mask)]


def test_a_prompt_that_leaves_no_room_for_the_answer_is_never_cut(path, prompt, problems):
    room = len(prompt.encode_prompt(ROW.messages, TERSE.token))
    config = settings(path, max_length=room, on_long_row="cut")

    encoded = encode([ROW], config, prompt, problems)

    assert encoded.rows == []
    assert told(problems, "refused") == [(1, "no room for the answer")]


def test_the_longer_answer_of_a_pair_counts(path, prompt, problems, length):
    config = settings(path, method="dpo", max_length=length)

    encode([PAIR], config, prompt, problems)

    assert told(problems, "fatal") == [(1, "too long")]


def test_a_system_message_that_the_template_has_no_place_for_is_refused(path, prompt, problems):
    row = Row((Message("system", "Be kind."), QUESTION), "A protocol.", "terse", line=7)

    encoded = encode([row, ROW], settings(path), prompt, problems)

    assert encoded.rows == [ROW]
    assert told(problems, "refused") == [(7, "chat template")]
    assert "system message: leave it out" in problems.found[0].text
