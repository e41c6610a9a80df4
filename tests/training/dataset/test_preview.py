"""What of an example is learned, shown."""

import pytest

from adapters.prompts import Message
from adapters.styles import STYLES
from training.compose import POCKET_FOLDER
from training.dataset.preview import Preview, Segment
from training.dataset.rows import Row

TOKENS = {style.name: style.token for style in STYLES}
ROW = Row((Message("user", "What is TCP?"),), "A protocol.", "terse", line=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The bundled tokenizer with the style tokens in it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        text = (POCKET_FOLDER / name).read_text(encoding="utf-8")
        for number, token in zip((8, 9), TOKENS.values(), strict=True):
            text = text.replace(f'"[control_{number}]"', f'"{token}"')
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def marked(folder):
    return Preview(folder, TOKENS, in_colour=False)


@pytest.fixture
def coloured(folder):
    return Preview(folder, TOKENS, in_colour=True)


def test_the_parts_are_all_there_and_in_their_order(marked, prompt):
    segments = marked.segments(ROW)

    assert [segment.role for segment in segments] == ["masked", "style", "masked", "learned"]
    text = "".join(segment.text for segment in segments)
    assert text.replace(" ", "") == "<s>[INST]<STYLE_TERSE>\nWhatisTCP?[/INST]Aprotocol.</s>"
    example = prompt.encode_example(ROW.messages, ROW.completion, "<STYLE_TERSE>")
    assert sum(segment.num_tokens for segment in segments) == len(example.input_ids)
    assert segments[-1].num_tokens == sum(example.completion_mask)


def test_the_style_token_is_one_token_on_its_own(marked):
    assert marked.segments(ROW)[1] == Segment("style", "<STYLE_TERSE>", 1)


def test_all_that_was_said_before_is_masked(marked):
    messages = (*ROW.messages, Message("assistant", "A protocol."), Message("user", "And UDP?"))
    segments = marked.segments(Row(messages, "Another one.", "verbose"))

    assert "A protocol." in segments[0].text
    assert segments[1].text == "<STYLE_VERBOSE>"
    assert "Another one." in segments[-1].text


def test_a_rejected_answer_comes_last(marked):
    segments = marked.segments(Row(ROW.messages, "A protocol.", "terse", rejected="A cable."))

    assert [segment.role for segment in segments][-2:] == ["learned", "rejected"]
    assert "A cable." in segments[-1].text
    assert "TCP" not in segments[-1].text


def test_without_colours_words_tell_what_is_what(marked):
    head, *parts = marked.draw(ROW)

    assert head.startswith("line 3 · terse · ")
    assert [part.split()[0] for part in parts] == ["masked", "style", "masked", "learned"]
    assert "\x1b" not in "".join(parts)


def test_with_colours_what_is_read_is_dim_and_what_is_learned_is_green(coloured):
    _, text = coloured.draw(ROW)

    assert "\x1b[7m<STYLE_TERSE>\x1b[0m" in text
    assert text.startswith("\x1b[2m<s>[INST]")
    assert "\x1b[32m" in text.partition("[/INST]")[2]


@pytest.mark.parametrize("label", [True, False])
def test_a_label_is_shown(marked, label):
    head, *_ = marked.draw(Row(ROW.messages, "A protocol.", "terse", label=label))

    assert f"labelled {str(label).lower()}" in head


def test_words_cannot_command_the_terminal(marked, coloured):
    row = Row((Message("user", "red \x1b[31m alert \x07"),), "A protocol.", "terse")

    for text in ("".join(marked.draw(row)), "".join(coloured.draw(row))):
        assert "\x1b[31m" not in text
        assert "\x07" not in text
        assert "\\x1b[31m" in text
