import dataclasses
import itertools
import json
import random

import pytest

from adapters.styles import STYLES
from tests.training.conftest import without_remarks
from training.cards import Facet
from training.compose import HELDOUT_FILE, POCKET_FOLDER, heldout_questions
from training.dataset.reader import load_rows
from training.pocket.corpus import Corpus, corpus_sha256, corpus_texts
from training.pocket.tokenizer import CONTROL_TOKENS
from training.questions import normalize

pytestmark = pytest.mark.slow

NUM_EXAMPLES = 6000
RESERVED = [token for token in CONTROL_TOKENS if token.startswith("[control_")]


@pytest.fixture(scope="module")
def corpus(cards, pocket_prompt):
    return Corpus(cards, pocket_prompt)


@pytest.fixture(scope="module")
def examples(corpus):
    return list(corpus.examples(NUM_EXAMPLES, seed=1))


@pytest.fixture(scope="module")
def conversations(examples, pocket_prompt):
    return [turns for example in examples if (turns := turns_of(example, pocket_prompt))]


@pytest.fixture(scope="module")
def heldout_wordings():
    rows = load_rows(HELDOUT_FILE, [style.name for style in STYLES])
    return {normalize(row.prompt) for row in rows}


def turns_of(example, prompt):
    """The users' words of an example; none for the text of a card."""
    opened, closed = prompt.token_id("[INST]"), prompt.token_id("[/INST]")
    ids = example.input_ids
    begins = [place for place, token in enumerate(ids) if token == opened]
    ends = [place for place, token in enumerate(ids) if token == closed]
    return [
        prompt.decode(ids[begin + 1 : end]).strip() for begin, end in zip(begins, ends, strict=True)
    ]


def answer_of(example, prompt):
    return prompt.decode(example.input_ids[example.prompt_length :])


# What the base must not have seen


def test_no_wording_is_a_held_out_one(conversations, heldout_wordings):
    wordings = {normalize(turn) for turns in conversations for turn in turns}
    assert len(wordings) > NUM_EXAMPLES / 2
    assert wordings & heldout_wordings == set()


def test_no_wording_is_a_held_out_one_with_remarks(conversations, heldout_wordings):
    wordings = {normalize(without_remarks(turn)) for turns in conversations for turn in turns}
    assert wordings & heldout_wordings == set()


def test_no_slip_turns_another_wording_into_a_held_out_one(cards, pocket_prompt):
    # Whoever leaves out 'exactly' or swaps two letters would ask the question that is held out.
    alike = [
        dataclasses.replace(
            card,
            facets={
                name: dataclasses.replace(
                    facet, asks=(f"So {name} {card.name}?", f"So {name} exactly {card.name}?")
                )
                for name, facet in card.facets.items()
            },
        )
        for card in cards[:100]
    ]
    heldout = {normalize(question.text) for question in heldout_questions(alike)}
    examples = Corpus(alike, pocket_prompt).examples(NUM_EXAMPLES, seed=1)
    asked = {normalize(turn) for example in examples for turn in turns_of(example, pocket_prompt)}
    assert asked & heldout == set()


def test_what_the_corpus_holds_back_is_what_the_style_data_holds_out(
    corpus, heldout_wordings, cards
):
    assert {normalize(question.text) for question in heldout_questions(cards)} == heldout_wordings
    assert len(corpus.heldout_questions()) == len(heldout_wordings)


def test_no_text_names_a_style_token(examples, pocket_prompt, cards):
    texts = [pocket_prompt.decode(example.input_ids) for example in examples]
    for text in itertools.chain(texts, corpus_texts(cards[::20])):
        assert not any(style.token.lower() in text.lower() for style in STYLES)


def test_no_example_holds_a_reserved_id(examples, pocket_prompt):
    reserved = {pocket_prompt.token_id(token) for token in RESERVED}
    assert [e for e in examples if not reserved.isdisjoint(e.input_ids)] == []


# What it sees


def test_every_example_is_one_text_from_bos_to_eos(examples, pocket_prompt):
    for example in examples:
        assert example.input_ids[0] == pocket_prompt.bos_id
        assert example.input_ids.count(pocket_prompt.bos_id) == 1
        assert example.input_ids[-1] == pocket_prompt.eos_id
        assert 0 < example.prompt_length < len(example.input_ids) - 1


def test_every_example_fits_the_bundled_model(examples):
    config = json.loads((POCKET_FOLDER / "config.json").read_text())
    assert max(len(e.input_ids) for e in examples) <= config["max_position_embeddings"]
    assert max(max(e.input_ids) for e in examples) < config["vocab_size"]


def test_questions_conversations_and_card_texts_are_mixed(examples, pocket_prompt):
    counts = [len(turns_of(example, pocket_prompt)) for example in examples]
    shares = {number: counts.count(number) / len(examples) for number in set(counts)}
    assert shares == {
        0: pytest.approx(0.20, abs=0.03),
        1: pytest.approx(0.73, abs=0.03),
        2: pytest.approx(0.07, abs=0.03),
    }


def test_every_card_is_told_and_asked_about(examples, cards, pocket_prompt):
    answers = " ".join(answer_of(example, pocket_prompt) for example in examples)
    told = [card.name for card in cards if any(f.more in answers for f in card.facets.values())]
    assert told == [card.name for card in cards]


def test_an_answer_is_one_sentence_or_a_facet_or_two_of_them(examples, cards, pocket_prompt):
    asked = [example for example in examples if turns_of(example, pocket_prompt)]
    facets = [facet for card in cards for facet in card.facets.values()]
    shorts = {facet.short for facet in facets}
    middling = {f"{facet.short} {facet.more}" for facet in facets}
    answers = [answer_of(example, pocket_prompt) for example in asked]
    longer = [answer for answer in answers if answer not in shorts | middling]
    assert sum(answer in middling for answer in answers) > len(answers) / 2
    assert all(any(answer.startswith(short) for short in shorts) for answer in longer[:100])
    assert all(any(answer.endswith(facet.more) for facet in facets) for answer in longer[:100])


def test_nobody_sends_an_empty_text(conversations):
    assert all(normalize(turn) for turns in conversations for turn in turns)


def test_the_same_seed_gives_the_same_examples_and_another_seed_others(corpus):
    first, again, other = (list(corpus.examples(50, seed)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_held_out_questions_are_answered_at_a_middling_length(corpus, pocket_prompt, cards):
    for example, held in zip(corpus.heldout_questions(), heldout_questions(cards), strict=True):
        facet = held.card.facets[held.facet]
        assert turns_of(example, pocket_prompt) == [held.text]
        assert answer_of(example, pocket_prompt) == f"{facet.short} {facet.more}"


def test_only_questions_that_name_their_concept_stand_beside_another_matter(corpus, cards):
    facet, rng = cards[0].facets["how"], random.Random(1)
    wordings = [corpus._wording(cards[0], "how", rng) for _ in range(400)]
    for asked, has_company in ((facet.asks, True), (facet.hints, False)):
        assert len(set(wordings).intersection(asked)) > 5
        accompanied = [w for w in wordings for text in asked if text in w and text != w]
        assert bool(accompanied) == has_company


# What the tokenizer learns from


def test_the_tokenizer_learns_from_every_name_and_every_answer(cards):
    some = cards[::20]
    texts = set(corpus_texts(some))
    for card in some:
        assert any(text.startswith(f" {card.name} ") for text in texts)
        for facet in card.facets.values():
            assert f"{facet.short} {facet.more}" in texts
            assert texts.issuperset((*facet.asks, *facet.hints))


# What a base is identified by


def test_the_same_cards_have_the_same_sha256(cards):
    assert corpus_sha256(cards) == corpus_sha256(list(cards))


def with_facet(card, **values):
    facet = dataclasses.replace(card.facets["how"], **values)
    return dataclasses.replace(card, facets={**card.facets, "how": facet})


@pytest.mark.parametrize(
    "change",
    [
        lambda card: dataclasses.replace(card, name="other"),
        lambda card: dataclasses.replace(card, phrase="an other"),
        lambda card: dataclasses.replace(card, aliases=(*card.aliases, "others")),
        lambda card: dataclasses.replace(card, versus_phrase="another"),
        lambda card: dataclasses.replace(
            card,
            facets={**card.facets, "when": Facet(("When?",), ("And when?",), "Now.", "Or never.")},
        ),
        lambda card: with_facet(card, short="Other."),
        lambda card: with_facet(card, more="Other."),
        lambda card: with_facet(card, asks=("Other?",)),
        lambda card: with_facet(card, hints=("Other?",)),
    ],
    ids=["name", "phrase", "aliases", "versus", "facets", "short", "more", "asks", "hints"],
)
def test_any_change_of_a_card_changes_the_sha256(kettle_card, change):
    assert corpus_sha256([change(kettle_card)]) != corpus_sha256([kettle_card])


def test_a_card_more_changes_the_sha256(cards):
    assert corpus_sha256(cards[:-1]) != corpus_sha256(cards)


def test_the_bundled_base_was_trained_on_todays_cards(cards):
    record = json.loads((POCKET_FOLDER / "pretraining.json").read_text())
    assert record["corpus_sha256"] == corpus_sha256(cards)
