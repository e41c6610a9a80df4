import dataclasses
import json
import random
from collections import Counter

import pytest

from adapters.styles import TERSE, VERBOSE
from tests.training.conftest import without_remarks
from training.cards import FACETS, ngram_counts, words_of
from training.compose import (
    CONTEXT_SHARE,
    HELDOUT_FILE,
    PAIRS_FILE,
    compose_heldout,
    compose_pairs,
    heldout_questions,
    join_paragraphs,
    link,
    terse_answer,
    verbose_answer,
)
from training.dataset.reader import load_rows
from training.questions import normalize

pytestmark = pytest.mark.slow

FILES = (PAIRS_FILE, HELDOUT_FILE)


@pytest.fixture(scope="module")
def pairs():
    return read(PAIRS_FILE)


@pytest.fixture(scope="module")
def heldout():
    return read(HELDOUT_FILE)


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def rows(request):
    return read(request.param)


@pytest.fixture(scope="module")
def sources(cards):
    """Which card and facet a terse answer comes from."""
    return {facet.short: (card.name, name) for card in cards for name, facet in card.facets.items()}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def completions(rows, style):
    return [row["completion"] for row in rows if row["style"] == style.name]


def with_answers(card, short, more):
    """The card, saying the same about everything."""
    facets = {
        name: dataclasses.replace(facet, short=short, more=more)
        for name, facet in card.facets.items()
    }
    return dataclasses.replace(card, facets=facets)


# The shipped rows


@pytest.mark.parametrize(("path", "number"), [(PAIRS_FILE, 1600), (HELDOUT_FILE, 200)])
def test_the_rows_have_the_promised_number_and_pass_the_readers_checks(path, number):
    assert len(load_rows(path, ("terse", "verbose"))) == number


def test_the_pairs_are_what_the_cards_give_today(pairs, cards, pocket_prompt):
    assert pairs == compose_pairs(cards, pocket_prompt)


def test_the_heldout_rows_are_what_the_cards_give_today(heldout, cards, pocket_prompt):
    assert heldout == compose_heldout(cards, pocket_prompt)


def test_every_question_is_answered_in_both_styles(rows):
    for terse, verbose in zip(rows[::2], rows[1::2], strict=True):
        assert terse["prompt"] == verbose["prompt"]
        assert (terse["style"], verbose["style"]) == (TERSE.name, VERBOSE.name)


@pytest.mark.parametrize(("path", "number"), [(PAIRS_FILE, 800), (HELDOUT_FILE, 100)])
def test_no_question_is_asked_twice(path, number):
    assert len({normalize(row["prompt"]) for row in read(path)}) == number


def test_no_question_is_both_trained_and_held_out(pairs, heldout):
    trained = {normalize(row["prompt"]) for row in pairs}
    assert trained & {normalize(row["prompt"]) for row in heldout} == set()


def test_no_trained_question_is_a_held_out_one_with_remarks(pairs, heldout):
    trained = {normalize(without_remarks(row["prompt"])) for row in pairs}
    assert trained & {normalize(row["prompt"]) for row in heldout} == set()


def test_terse_answers_have_at_most_28_tokens(rows, pocket_prompt):
    lengths = [len(pocket_prompt.encode_words(text)) for text in completions(rows, TERSE)]
    assert max(lengths) <= 28


def test_verbose_answers_have_90_to_230_tokens(rows, pocket_prompt):
    lengths = [len(pocket_prompt.encode_words(text)) for text in completions(rows, VERBOSE)]
    assert min(lengths) >= 90
    assert max(lengths) <= 230


@pytest.mark.parametrize("parts", ["words", "tokens"])
def test_no_answer_has_four_in_a_row_more_than_twice(rows, pocket_prompt, parts):
    split = words_of if parts == "words" else pocket_prompt.encode_words
    answers = [row["completion"] for row in rows]
    counts = [max(ngram_counts(split(answer)).values(), default=0) for answer in answers]
    assert [text for text, count in zip(answers, counts, strict=True) if count > 2] == []


def test_a_verbose_answer_opens_with_the_terse_one(rows):
    for terse, verbose in zip(rows[::2], rows[1::2], strict=True):
        assert verbose["completion"].startswith(terse["completion"] + " ")


def test_verbose_answers_have_two_paragraphs_nearly_all_of_them(rows):
    answers = [text.split("\n\n") for text in completions(rows, VERBOSE)]
    assert all(part.strip() == part != "" for parts in answers for part in parts)
    assert {len(parts) for parts in answers} <= {1, 2}
    assert sum(len(parts) == 2 for parts in answers) > 0.95 * len(answers)


def test_the_pairs_use_every_card(pairs, cards, sources):
    used = {sources[text][0] for text in completions(pairs, TERSE)}
    assert used == {card.name for card in cards}


def test_no_card_gives_more_than_its_share_of_the_pairs(pairs, cards, sources):
    counts = Counter(sources[text][0] for text in completions(pairs, TERSE))
    assert max(counts.values()) <= -(-800 // len(cards))


def test_the_pairs_ask_for_every_facet_and_most_for_definitions(pairs, sources):
    counts = Counter(sources[text][1] for text in completions(pairs, TERSE))
    assert set(counts) == set(FACETS)
    assert min(counts.values()) >= 10
    assert counts.most_common(1)[0][0] == "definition"


def test_every_question_leads_to_the_answer_of_a_card_it_is_about(pairs, cards, sources):
    by_name = {card.name: card for card in cards}
    for row in pairs[::2]:
        name, facet = sources[row["completion"]]
        card = by_name[name]
        names = (card.name, card.phrase, *card.aliases)
        hints = map(normalize, card.facets[facet].hints)
        is_named = any(name.lower() in row["prompt"].lower() for name in names)
        assert is_named or normalize(without_remarks(row["prompt"])) in hints


def test_some_trained_questions_come_with_remarks(pairs):
    questions = [row["prompt"] for row in pairs[::2]]
    share = sum(without_remarks(text) != text for text in questions) / len(questions)
    assert share == pytest.approx(CONTEXT_SHARE, abs=0.05)


# Composing


def test_the_same_cards_hold_back_the_same_questions(cards):
    assert heldout_questions(cards) == heldout_questions(cards)


def test_held_out_questions_are_the_cards_own_one_a_card(cards):
    questions = heldout_questions(cards)
    assert len({question.card.name for question in questions}) == 100
    for question in questions:
        assert question.text == question.card.facets[question.facet].asks[0]


def test_a_terse_answer_is_the_facets_short_sentence(kettle_card):
    assert terse_answer(kettle_card, "limit") == "Hard tap water leaves scale on the inside."


def test_a_verbose_answer_differs_with_chance_but_not_for_the_same_chance(cards, pocket_prompt):
    card = cards[0]
    answers = [verbose_answer(card, "how", pocket_prompt, random.Random(n)) for n in range(20)]
    again = [verbose_answer(card, "how", pocket_prompt, random.Random(n)) for n in range(20)]
    assert answers == again
    assert len(set(answers)) > 1


def test_every_facet_of_every_card_gives_a_verbose_answer(cards, pocket_prompt):
    chance = random.Random(3)
    for card in cards[::8]:
        for facet in card.facets:
            text = verbose_answer(card, facet, pocket_prompt, chance)
            assert 90 <= len(pocket_prompt.encode_words(text)) <= 230
            assert max(ngram_counts(words_of(text)).values()) <= 2


def test_a_card_with_too_little_to_say_is_refused(kettle_card, pocket_prompt):
    short = with_answers(kettle_card, "Tea is wet.", "It is.")
    with pytest.raises(ValueError, match="tea kettle: no long answer about its how fits"):
        verbose_answer(short, "how", pocket_prompt, random.Random(0))


def test_a_card_that_repeats_itself_is_refused(kettle_card, pocket_prompt):
    more = "Water gets hot and hotter in the pot, as everybody in the house knows by now."
    parrot = with_answers(kettle_card, "Water gets hot in here.", more)
    with pytest.raises(ValueError, match="no long answer about its how fits"):
        verbose_answer(parrot, "how", pocket_prompt, random.Random(0))


@pytest.mark.parametrize("compose", [compose_pairs, compose_heldout])
def test_every_card_that_cannot_give_its_answers_is_named(cards, pocket_prompt, compose):
    held = [question.card.name for question in heldout_questions(cards)][:2]
    broken = {
        held[0]: ("Zyxw " * 40, "Nothing more."),
        held[1]: ("Zyxw.", "Nothing more."),
    }
    changed = [
        with_answers(card, *broken[card.name]) if card.name in broken else card for card in cards
    ]
    with pytest.raises(ValueError, match="tokens") as caught:
        compose(changed, pocket_prompt)
    text = str(caught.value)
    assert f"/{held[0]}: " in text
    assert f"/{held[1]}: no long answer" in text


@pytest.mark.parametrize(
    ("facet", "sentence", "forms"),
    [
        ("example", "A login page.", {"For example, a login page.", "For instance, a login page."}),
        ("limit", "In 2020 it broke.", {"Still, in 2020 it broke.", "Even so, in 2020 it broke."}),
        ("example", "Google has one.", set()),
        ("limit", "I fail.", set()),
        ("how", "A login page.", set()),
    ],
)
def test_a_link_never_takes_a_capital_from_a_name(facet, sentence, forms):
    linked = {link(facet, sentence, random.Random(number)) for number in range(100)}
    assert linked == {sentence, *forms}


def test_paragraphs_are_parted_by_an_empty_line_and_empty_ones_left_out():
    assert join_paragraphs([["A.", "B."], [], ["C."]]) == "A. B.\n\nC."
