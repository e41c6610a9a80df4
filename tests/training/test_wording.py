import random
from collections import Counter

import pytest

from training.questions import normalize
from training.wording import CLOSINGS, OPENINGS, as_typed, beside_another_matter, in_context

QUESTION = "How does a tea kettle work?"
STRAY_WORDS = ("lamp", "Garden,", "seven.", "(slowly)")


@pytest.fixture
def chance():
    return random.Random(0)


@pytest.fixture
def contexts(chance):
    """What stands before and after the question, many times over."""
    return [in_context(QUESTION, chance).partition(QUESTION) for _ in range(500)]


@pytest.fixture
def typed(chance):
    return [as_typed(QUESTION, STRAY_WORDS, chance) for _ in range(3000)]


@pytest.mark.parametrize("remarks", [OPENINGS, CLOSINGS])
def test_no_remark_stands_twice(remarks):
    assert len({normalize(remark) or remark for remark in remarks}) == len(remarks)


def test_context_leaves_the_question_as_it_is(contexts):
    assert all(question == QUESTION for _, question, _ in contexts)


def test_context_is_a_remark_before_or_after_or_both(contexts):
    forms = Counter((bool(before), bool(after)) for before, _, after in contexts)
    assert set(forms) == {(True, False), (False, True), (True, True)}
    assert min(forms.values()) > 50


def test_context_comes_from_the_remarks(contexts):
    before = {text.removesuffix(" ") for text, _, _ in contexts if text}
    after = {text.removeprefix(" ") for _, _, text in contexts if text}
    assert before <= set(OPENINGS)
    assert after <= set(CLOSINGS)
    assert len(before) > 60
    assert len(after) > 25


def test_the_same_chance_types_the_same():
    once, twice = (
        [as_typed(QUESTION, STRAY_WORDS, random.Random(n)) for n in range(50)] for _ in range(2)
    )
    assert once == twice


@pytest.fixture(scope="module")
def typed_by_many():
    return {as_typed(QUESTION, STRAY_WORDS, random.Random(n)) for n in range(20_000)}


def test_some_people_type_the_question_as_it_is(typed):
    assert 0.1 < sum(text == QUESTION for text in typed) / len(typed) < 0.5


@pytest.mark.parametrize(
    "habit",
    [
        QUESTION.lower(),
        "How does a tea kettle",  # without its last word
        "How does a kettle work?",
        "How does a tea ketle work?",
        "How does a tea kettel work?",
    ],
    ids=["lower case", "last word left out", "a word left out", "a letter", "swapped"],
)
def test_some_people_type_in_haste(typed_by_many, habit):
    assert habit in typed_by_many


def test_some_people_leave_out_the_mark(typed):
    # more than the few whose slip happens to fall on it
    assert sum(text == QUESTION.removesuffix("?") for text in typed) > 0.02 * len(typed)


def test_some_people_add_remarks(typed):
    remarks = [*OPENINGS, *CLOSINGS]
    plain = [remark for remark in remarks if len(remark) > 8]
    assert any(remark in text for text in typed for remark in plain)


@pytest.mark.parametrize("word", ["lamp", "Garden", "seven", "(slowly)"])
def test_some_people_use_words_that_have_nothing_to_do_with_it(typed, word):
    assert any(f"{word} {QUESTION}" in text for text in typed)
    assert any(f"{QUESTION} {word}" in text for text in typed)
    assert any(f"How {word} does a tea kettle work?" in text for text in typed)


@pytest.mark.parametrize("place", ["before", "after"])
def test_some_people_say_something_else_before_or_after(typed, place):
    cut = "removesuffix" if place == "before" else "removeprefix"
    rests = [getattr(text, cut)(QUESTION) for text in typed]
    stray = {word.strip("?.,") for word in STRAY_WORDS}
    rambling = [rest for rest in rests if QUESTION not in rest and len(rest.split()) in (4, 7)]
    assert sum(len(stray & set(rest.split())) >= 2 for rest in rambling) > 10


def test_some_people_use_words_of_no_language(typed):
    known = set(normalize(" ".join((QUESTION, *STRAY_WORDS, *OPENINGS, *CLOSINGS))).split())
    lengthened = [text for text in typed if QUESTION in text]
    strange = [set(normalize(text).split()) - known for text in lengthened]
    assert sum(bool(words) for words in strange) > 50


@pytest.mark.parametrize("question", ["pi", "CI?", "what is a cell"])
def test_nobody_sends_an_empty_text(question, chance):
    assert all(as_typed(question, STRAY_WORDS, chance).strip() for _ in range(5000))


def test_running_text_about_something_else_stands_before_or_behind(chance):
    matter = [f"w{place}" for place in range(40)]
    texts = [beside_another_matter(QUESTION, matter, chance) for _ in range(300)]
    others = [text.replace(QUESTION, "").split() for text in texts]
    assert all(
        other == matter[(at := matter.index(other[0])) : at + len(other)] for other in others
    )
    assert {len(other) for other in others} >= set(range(4, 15))
    assert 0.5 < sum(text.endswith(QUESTION) for text in texts) / len(texts) < 0.7
    assert all(text.endswith(QUESTION) or text.startswith(QUESTION) for text in texts)
