import random

import pytest
from tokenizers import Tokenizer, decoders, models

from adapters.prompts import DEFAULT_CHAT_TEMPLATE, PromptFormat
from serving.detokenizer import Detokenizer

# GPT-2's way to write any byte as a visible character, which byte-level tokenizers share.
VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
HIDDEN = [byte for byte in range(256) if byte not in VISIBLE]
LETTERS = {byte: chr(byte) for byte in VISIBLE} | {
    byte: chr(256 + number) for number, byte in enumerate(HIDDEN)
}
WORD_STARTS = decoders.Sequence(
    [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
)


def make_prompt(tokens, decoder):
    """A format whose tokens have the ids 0, 1, 2 and so on."""
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens(["</s>"])
    return PromptFormat(tokenizer.to_str(), DEFAULT_CHAT_TEMPLATE, bos_token=None, eos_token="</s>")


def byte_level(*pieces):
    """Tokens that are exactly these pieces of text or bytes: their format and their ids."""
    tokens = [
        "".join(LETTERS[byte] for byte in (piece.encode() if isinstance(piece, str) else piece))
        for piece in pieces
    ]
    kinds = list(dict.fromkeys(tokens))
    return make_prompt(kinds, decoders.ByteLevel()), [kinds.index(token) for token in tokens]


def follow(prompt, ids, stop=(), min_tokens=0):
    """Feed ids one by one until a stop string is met; what came of each and of the end."""
    detokenizer = Detokenizer(prompt, stop)
    given = []
    for number, token_id in enumerate(ids, 1):
        given.append(detokenizer.add(token_id, may_stop=number > min_tokens))
        if detokenizer.stopped:
            break
    given.append(detokenizer.finish())
    assert "".join(given) == detokenizer.text, "all pieces together are the text"
    return given, detokenizer


def answer(*pieces, stop=(), min_tokens=0):
    """What each of the pieces lets come out, the end last."""
    return follow(*byte_level(*pieces), stop, min_tokens)[0]


# Characters


def test_text_comes_with_its_token():
    assert answer("It", " caps", " requests", ".") == ["It", " caps", " requests", ".", ""]


def test_an_answer_without_tokens_is_empty():
    assert answer() == [""]


@pytest.mark.parametrize("character", ["é", "€", "😀"])
def test_a_character_over_several_tokens_comes_whole_with_the_last_of_them(character):
    *first, last = [bytes([byte]) for byte in character.encode()]

    given = answer("a", *first, last, "b")

    assert given == ["a", *[""] * len(first), character, "b", ""]


def test_text_that_shares_a_token_with_half_a_character_comes_with_the_other_half():
    assert answer(b"a\xe2", b"\x82", b"\xac!", "b") == ["", "", "a€!", "b", ""]


def test_half_a_character_at_the_end_shows_that_something_is_missing():
    assert answer("a", b"\xe2", b"\x82") == ["a", "", "", "\ufffd"]


def test_bytes_that_are_no_text_hold_nothing_back_for_ever():
    assert answer("a", b"\xff", "b", "c") == ["a", "", "\ufffdb", "c", ""]


def test_a_token_that_is_only_for_control_leaves_no_text():
    prompt, ids = byte_level("a", "b")

    given, _ = follow(prompt, [ids[0], prompt.eos_id, ids[1]])

    assert given == ["a", "", "b", ""]


def test_a_tokenizer_that_marks_word_starts_keeps_the_spaces_between_words():
    tokens = ["▁It", "▁co", "sts", "▁", "▁now", "<0xE2>", "<0x82>", "<0xAC>"]
    prompt = make_prompt(tokens, WORD_STARTS)
    ids = [tokens.index(token) for token in [*tokens[:4], *tokens[5:], *tokens[3:5]]]

    given, _ = follow(prompt, ids)

    assert given == ["It", " co", "sts", "", "", "", " €", "", "  now", ""]


# White space


def test_white_space_around_the_answer_is_no_part_of_it():
    assert answer(" ", "\n", " Hi", " ", "\n") == ["", "", "Hi", "", "", ""]


def test_white_space_inside_the_answer_comes_with_what_follows():
    assert answer("a ", "\n", " ", "b") == ["a", "", "", " \n b", ""]


def test_an_answer_of_white_space_is_empty():
    assert answer(" ", "\n\n") == ["", "", ""]


# Stop strings


def test_an_answer_ends_in_front_of_a_stop_string_over_several_tokens():
    given = answer("one", "S", "TO", "P", " two", stop=("STOP",))

    assert given == ["one", "", "", "", ""]


def test_the_beginning_of_a_stop_string_comes_out_if_it_goes_on_otherwise():
    assert answer("one S", "T", "ay", stop=("STOP",)) == ["one", "", " STay", ""]


def test_the_beginning_of_a_stop_string_comes_out_at_the_end():
    assert answer("one", " STO", stop=("STOP",)) == ["one", "", " STO"]


@pytest.mark.parametrize(
    ("pieces", "stop", "text"),
    [
        (["oneSTOPtwo"], ["STOP"], "one"),
        (["STOP", " two"], ["STOP"], ""),
        (["one  ", "STOP"], ["STOP"], "one"),
        (["a", "a", "a", "b", "c"], ["aab"], "a"),  # begins again inside its own beginning
        (["one\n", "\n", "two"], ["\n\n"], "one"),
        (["one END two STOP"], ["STOP", "END"], "one"),
        (["one END two STOP"], ["END", "STOP"], "one"),
        (["xab", "c", "d"], ["bcd", "c"], "xab"),  # the shorter one is complete first
        (["x", "ab", "cd"], ["bc", "abcd"], "x"),  # of two in one token the first counts
        (["a", b"\xe2", b"\x82", b"\xac", "!b"], ["€!"], "a"),
        (["a", b"\xe2", b"\x82", b"\xacb"], ["€"], "a"),
    ],
)
def test_the_text_is_what_stands_in_front_of_the_first_stop_string(pieces, stop, text):
    _, detokenizer = follow(*byte_level(*pieces), tuple(stop))

    assert detokenizer.stopped
    assert detokenizer.text == text


def test_no_more_is_held_back_than_the_longest_possible_beginning():
    given = answer("xa", "b", "d", stop=("abc", "bde"))

    assert given == ["x", "", "a", "bd"]


@pytest.mark.parametrize("pieces", [["one", "stop"], ["STO", "one"], ["S", "TO", " P"], [" ST"]])
def test_what_only_looks_like_a_stop_string_ends_nothing(pieces):
    _, detokenizer = follow(*byte_level(*pieces), ("STOP",))

    assert not detokenizer.stopped
    assert detokenizer.text == "".join(pieces).strip()


# Stop strings before the minimum


def test_a_stop_string_before_the_minimum_is_text():
    given = answer("STOP", " one", "STOP", stop=("STOP",), min_tokens=2)

    assert given == ["STOP", " one", "", ""]


def test_a_stop_string_that_was_allowed_to_pass_ends_nothing_later():
    _, detokenizer = follow(*byte_level("STOP", "a", "b"), ("STOP",), min_tokens=1)

    assert not detokenizer.stopped
    assert detokenizer.text == "STOPab"


def test_a_stop_string_may_begin_before_the_minimum():
    assert answer("one S", "TO", "P", stop=("STOP",), min_tokens=2) == ["one", "", "", ""]


def test_a_stop_string_may_overlap_with_one_that_was_allowed_to_pass():
    assert answer("a", "a", "a", "b", stop=("aa",), min_tokens=2) == ["", "a", "", ""]


# Against decoding everything at once


@pytest.mark.parametrize("seed", range(5))
def test_any_tokens_read_as_when_they_are_decoded_at_once(seed, tokenizer_json):
    source = random.Random(seed)
    prompt = PromptFormat(tokenizer_json, DEFAULT_CHAT_TEMPLATE, bos_token=None, eos_token="</s>")

    for _ in range(40):
        ids = source.choices(range(prompt.num_tokens), k=source.randint(0, 30))
        assert follow(prompt, ids)[1].text == prompt.decode(ids).strip()


@pytest.mark.parametrize("seed", range(5))
def test_words_read_as_when_they_are_decoded_at_once(seed):
    source = random.Random(seed)
    spelled = {text: [f"<0x{byte:02X}>" for byte in text.encode()] for text in ("é", "€", "😀")}
    words = {text: [text] for text in ("▁", "a", "▁b", "c▁")} | spelled
    tokens = sorted({token for word in words.values() for token in word})
    prompt = make_prompt(tokens, WORD_STARTS)

    for _ in range(40):
        chosen = source.choices([*words.values()], k=20)
        ids = [tokens.index(token) for word in chosen for token in word]
        assert follow(prompt, ids)[1].text == prompt.decode(ids).strip()


def find_end(text, known, stop):
    """Where the first stop string begins of those that do not lie in the first characters."""
    places = [
        place
        for place in range(len(text))
        for one in stop
        if text.startswith(one, place) and place + len(one) > known
    ]
    return min(places, default=None)


def certain(text, stop):
    """The text up to where a stop string could have begun."""
    for start in range(len(text)):
        if any(one != text[start:] and one.startswith(text[start:]) for one in stop):
            return text[:start].strip()
    return text.strip()


def cut_anywhere(source, text):
    """The bytes of a text in parts, which may end inside a character."""
    data = text.encode()
    places = sorted(source.sample(range(1, len(data)), k=source.randint(1, len(data) - 1)))
    return [data[start:end] for start, end in zip([0, *places], [*places, None], strict=True)]


@pytest.mark.parametrize("seed", range(10))
def test_stop_strings_are_met_and_held_back_as_their_definition_says(seed):
    source = random.Random(seed)
    num_stopped = 0

    for _ in range(60):
        text = "".join(source.choices("aab €\n", k=16)) + "."
        stop = ["".join(source.choices("ab €\n", k=source.randint(2, 4))) for _ in range(3)]
        min_tokens = source.choice([0, 0, 3, 6])
        prompt, ids = byte_level(*cut_anywhere(source, text))
        detokenizer = Detokenizer(prompt, tuple(stop))
        given = known = ""
        for number, token_id in enumerate(ids, 1):
            given += detokenizer.add(token_id, may_stop=number > min_tokens)
            text = prompt.decode(ids[:number])
            if text.endswith("\ufffd"):
                continue
            end = find_end(text, len(known), stop) if number > min_tokens else None
            assert detokenizer.stopped == (end is not None)
            known = text[:end]
            assert given == (known.strip() if detokenizer.stopped else certain(known, stop))
            if detokenizer.stopped:
                num_stopped += 1
                break
        given += detokenizer.finish()
        assert given == detokenizer.text == known.strip()

    assert 5 < num_stopped < 55  # both kinds of end are seen


@pytest.mark.parametrize("may_stop", [True, False])
def test_a_stop_string_in_front_of_half_a_character_is_met_at_the_end(may_stop):
    prompt, ids = byte_level(b"a", b"STOP\xe2")
    detokenizer = Detokenizer(prompt, ("STOP",))
    for token_id in ids:
        detokenizer.add(token_id)

    detokenizer.finish(may_stop=may_stop)

    assert detokenizer.stopped == may_stop
    assert detokenizer.text == ("a" if may_stop else "aSTOP\ufffd")
