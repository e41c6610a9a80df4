import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from adapters.prompts import DEFAULT_CHAT_TEMPLATE, PromptFormat
from serving.logprobs import Score
from serving.types import TokenLogprob
from serving.vocabulary import Vocabulary

TEXT = "Ünïcode, ☠ and 🙂: caffè\n\n\ttwo  spaces"


@pytest.fixture
def vocabulary(prompt):
    return Vocabulary(prompt)


@pytest.fixture(scope="module")
def marked():
    """A tokenizer of the kind that marks spaces, and writes what it does not know byte by byte."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    words += ["a", "▁a", "b", "▁b"]
    tokenizer = Tokenizer(
        models.BPE(
            {word: number for number, word in enumerate(words)},
            [("▁", "a"), ("▁", "b")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    saved = json.dumps(json.loads(tokenizer.to_str()))
    return PromptFormat(saved, DEFAULT_CHAT_TEMPLATE, bos_token="<s>", eos_token="</s>")


def texts(vocabulary, text):
    return [vocabulary.read(token_id)[0] for token_id in vocabulary.prompt.encode_words(text)]


def joined(vocabulary, text):
    return b"".join(vocabulary.read(id_)[1] for id_ in vocabulary.prompt.encode_words(text))


@pytest.mark.parametrize("text", [TEXT, " leading", "trailing ", "\n", "\ufffd"])
def test_the_bytes_of_tokens_make_up_their_text(vocabulary, text):
    assert joined(vocabulary, text) == text.encode()


def test_a_token_keeps_the_space_in_front_of_it(vocabulary):
    assert "".join(texts(vocabulary, "What is a cache?")) == "What is a cache?"


def test_a_part_of_a_character_is_told_byte_by_byte(vocabulary):
    assert texts(vocabulary, "☠") == ["bytes:\\xe2", "bytes:\\x98", "bytes:\\xa0"]


def test_vocabularies_that_mark_spaces_read_alike(marked):
    vocabulary = Vocabulary(marked)

    assert texts(vocabulary, "a b ☠a") == [
        " a", " b", " ", "bytes:\\xe2", "bytes:\\x98", "bytes:\\xa0", "a",
    ]  # fmt: skip
    assert joined(vocabulary, "a b ☠a") == " a b ☠a".encode()


def test_a_byte_that_is_a_character_reads_as_that(marked):
    assert texts(Vocabulary(marked), "a!") == [" a", "!"]


def test_control_tokens_and_ids_without_a_token_have_their_names(vocabulary, prompt):
    assert vocabulary.read(prompt.eos_id) == ("</s>", b"</s>")
    assert vocabulary.read(100_000) == ("<100000>", b"<100000>")


def test_a_score_is_told_in_words(vocabulary, prompt):
    [token_id] = prompt.encode_words("W")

    found = vocabulary.describe(Score([token_id, 2, token_id], [-1.5, -0.5, -1.5]))

    likely = TokenLogprob(2, "</s>", b"</s>", -0.5)
    itself = TokenLogprob(token_id, "W", b"W", -1.5)
    assert found == TokenLogprob(token_id, "W", b"W", -1.5, (likely, itself))
