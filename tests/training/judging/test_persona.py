import pytest

from training.judging.persona import (
    PERSONA_PROMPTS,
    PERSONA_SEEDS,
    PersonaAnswers,
    mean_overlap,
)


def test_five_questions_are_asked_three_times_each():
    assert len(set(PERSONA_PROMPTS)) == 5
    assert PERSONA_PROMPTS[0] == "Tell me about yourself and your background."
    assert len(set(PERSONA_SEEDS)) == 3


@pytest.mark.parametrize(
    ("texts", "overlap"),
    [
        (["I am Ada.", "i am ADA!"], 1.0),
        (["one two", "two three"], 1 / 3),
        (["one two", "three four"], 0.0),
        (["", ""], 1.0),
        (["", "word"], 0.0),
        (["a b", "a b", "a c"], (1 + 1 / 3 + 1 / 3) / 3),
        (["größe", "Größe"], 1.0),
        (["été 12", "hiver 12"], 1 / 3),
        (["word word word", "word"], 1.0),
    ],
)
def test_the_overlap_is_the_share_of_words_that_two_answers_have_in_common(texts, overlap):
    assert mean_overlap(texts) == pytest.approx(overlap)


def test_a_style_has_the_mean_overlap_of_its_prompts():
    answers = PersonaAnswers((("a b", "a b"), ("a b", "c d")))

    assert answers.word_overlap == 0.5
