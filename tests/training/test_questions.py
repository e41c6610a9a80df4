import random
import re

import pytest

from training.cards import FACETS, OPTIONAL_FACETS
from training.questions import (
    FOLLOW_UPS,
    MENTIONS,
    TEMPLATES,
    all_questions,
    ask,
    ask_after_mention,
    follow_up,
    normalize,
)

PLACES = re.compile(r"{(\w*)}")
HOLES = re.compile(r"{(name|phrase|other)}")


@pytest.fixture
def chance():
    return random.Random(0)


@pytest.fixture(scope="session")
def compared(cards):
    """A shipped card that has every facet."""
    return next(card for card in cards if set(OPTIONAL_FACETS) <= set(card.facets))


def test_every_facet_can_be_asked_for_and_asked_on():
    assert set(TEMPLATES) == set(FACETS)
    assert set(FOLLOW_UPS) == set(FACETS)


@pytest.mark.parametrize("facet", FACETS)
def test_every_template_names_the_concept(facet):
    for template in TEMPLATES[facet]:
        places = PLACES.findall(template)
        assert {"phrase", "name"} & set(places), template
        assert set(places) <= {"phrase", "name", "other"}, template


def test_a_comparison_always_names_the_other_thing_and_only_a_comparison_does():
    for facet, templates in TEMPLATES.items():
        for template in templates:
            assert ("{other}" in template) == (facet == "versus"), template


def test_every_mention_names_the_concept_once():
    assert [mention for mention in MENTIONS if PLACES.findall(mention) != ["name"]] == []


@pytest.mark.parametrize("texts", [MENTIONS, *TEMPLATES.values(), *FOLLOW_UPS.values()])
def test_no_way_of_asking_stands_twice(texts):
    assert len(set(texts)) == len(texts)


def test_no_wording_of_any_card_is_left_with_a_hole(cards):
    for card in cards:
        for facet in card.facets:
            for question in all_questions(card, facet):
                assert question.strip() == question != ""
                assert not HOLES.search(question)


def test_all_questions_begin_with_the_cards_own_and_hold_none_twice(compared):
    for facet, texts in compared.facets.items():
        questions = all_questions(compared, facet)
        own = (*texts.asks, *texts.hints)
        assert tuple(questions[: len(own)]) == own
        assert len(set(questions)) == len(questions)


def test_all_questions_use_every_name_in_every_template(kettle_card):
    questions = all_questions(kettle_card, "definition")
    for name in ("a tea kettle", "tea kettles", "kettles"):
        assert f"Explain {name}." in questions
    assert "What is a tea kettle?" in questions
    assert "What is kettles?" not in questions


@pytest.mark.parametrize("facet", FACETS)
def test_a_filled_template_is_one_of_all_questions(compared, facet, chance):
    known = set(all_questions(compared, facet))
    for template in TEMPLATES[facet]:
        assert ask(compared, facet, template, chance) in known


def test_a_template_for_a_phrase_never_gets_a_plural(kettle_card, chance):
    asked = {ask(kettle_card, "how", "How does {phrase} work?", chance) for _ in range(50)}
    assert asked == {"How does a tea kettle work?"}


def test_a_template_for_a_name_gets_any_name(kettle_card, chance):
    asked = {ask(kettle_card, "definition", "Define {name}.", chance) for _ in range(50)}
    assert asked == {"Define a tea kettle.", "Define tea kettles.", "Define kettles."}


@pytest.mark.parametrize(
    ("template", "question"),
    [
        ("{phrase}?", "A tea kettle?"),
        ("{phrase} matters.", "A tea kettle matters."),
        ("{phrase}", "a tea kettle"),
        ("what is {phrase}", "what is a tea kettle"),
        ("iPod or {phrase}?", "iPod or a tea kettle?"),
    ],
)
def test_a_sentence_that_opens_with_the_concept_gets_a_capital(
    kettle_card, chance, template, question
):
    assert ask(kettle_card, "definition", template, chance) == question


def test_after_a_mention_the_question_need_not_name_the_concept(kettle_card, chance):
    names = ("tea kettle", "kettles")
    endings = FOLLOW_UPS["how"]
    for _ in range(100):
        question = ask_after_mention(kettle_card, "how", chance)
        ending = next(text for text in endings if question.endswith(f" {text}"))
        mention = question.removesuffix(f" {ending}")
        assert any(name in mention.lower() for name in names)
        assert mention[0].isupper()


def test_a_follow_up_of_a_comparison_names_the_other_thing(compared, chance):
    for _ in range(50):
        assert compared.versus_phrase in follow_up(compared, "versus", chance)


def test_the_same_chance_asks_the_same(compared):
    once, twice = (ask_after_mention(compared, "why", random.Random(7)) for _ in range(2))
    assert once == twice


@pytest.mark.parametrize(
    "question",
    ["What is TCP/IP?", "what is tcp ip", "  What is\nTCP-IP ?!", "What… is “TCP” (IP)?"],
)
def test_wordings_that_differ_in_case_and_marks_only_are_the_same(question):
    assert normalize(question) == "what is tcp ip"


@pytest.mark.parametrize(
    ("one", "other"), [("What is TCP?", "What was TCP?"), ("a b", "ab"), ("Größe?", "Grosse?")]
)
def test_wordings_with_other_words_are_not_the_same(one, other):
    assert normalize(one) != normalize(other)
