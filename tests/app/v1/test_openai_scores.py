"""Probabilities of tokens, as OpenAI's own Python library sees them."""

import openai
import pytest

from tests.app.v1.test_scores import NO_ECHO, ONLY_ECHO, QUESTION, SCORED

MODEL = "pocket-verbosity"
MESSAGES = [{"role": "user", "content": QUESTION}]


def test_a_chat_answer_has_its_tokens_and_the_likeliest_ones(engine, openai_client):
    engine.script.append(NO_ECHO)

    answer = openai_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, logprobs=True, top_logprobs=2
    )

    content = answer.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in content).strip() == b"Names."
    assert [token.logprob for token in content] == [-0.25, -0.125]
    assert [(top.token, top.logprob) for top in content[0].top_logprobs] == [
        (" Na", -0.25),
        (" It", -1.5),
    ]


def test_a_completion_has_its_tokens_side_by_side(engine, openai_client):
    engine.script.append(SCORED)

    (choice,) = openai_client.completions.create(
        model=MODEL, prompt=QUESTION, logprobs=1, echo=True, max_tokens=2
    ).choices

    scores = choice.logprobs
    assert choice.text == "What is DNS?Names."
    assert scores.token_logprobs == [None, -0.5, -2.0, -0.25, -0.125]
    lengths = {len(scores.tokens), len(scores.top_logprobs), len(scores.text_offset)}
    assert lengths == {len(scores.token_logprobs)}
    assert choice.text[scores.text_offset[2] :] == " DNS?Names."


def test_a_harness_scores_what_it_appended_to_its_question(engine, openai_client):
    engine.script.append(ONLY_ECHO)
    context_length = 1  # tokens of the question, as the harness counts them

    (choice,) = openai_client.completions.create(
        model=MODEL, prompt=QUESTION, logprobs=1, echo=True, max_tokens=0, temperature=0, seed=1234
    ).choices

    scores = choice.logprobs
    assert sum(scores.token_logprobs[context_length:]) == -2.5
    best = [max(top.values()) for top in scores.top_logprobs[context_length:]]
    assert best == scores.token_logprobs[context_length:]


def test_probabilities_in_a_stream_raise_what_the_library_has_for_it(openai_client):
    with pytest.raises(openai.BadRequestError, match="'stream'") as caught:
        openai_client.chat.completions.create(
            model=MODEL, messages=MESSAGES, logprobs=True, stream=True
        )
    assert caught.value.param == "logprobs"
