"""What an evaluation harness reads through OpenAI's library is what transformers computes."""

from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
import torch
from openai import OpenAI

from adapters.prompts import Message, PromptFormat
from app import create_app
from serving.base_model import load_base
from serving.engine import ModelEngine
from serving.loader import attach_adapter
from tests.serving.conftest import LONG, SHORT, start_and_wait

pytestmark = pytest.mark.slow

LONG_TEXT = "A cache keeps what was computed before. " * 45
"""More tokens than are read in one step, and than are scored at once."""
TEXTS = [
    "What is rate limiting? It caps how many requests a client may send in a minute.",
    "Yes",
    "Ünïcode, ☠ and 🙂: </s> [INST] caffè\n\n\ttwo  spaces ",
    LONG_TEXT,
]


@pytest.fixture(scope="module")
def client(pocket):
    """OpenAI's library, talking to the bundled base with an adapter."""
    engine = start_and_wait(ModelEngine(pocket.config(prompt_tokens_per_step=300)))
    with httpx2.Client(transport=httpx2.WSGITransport(create_app(engine))) as transport:
        yield OpenAI(
            api_key="any", base_url="http://localhost/v1", max_retries=0, http_client=transport
        )
    engine.stop()


@pytest.fixture(scope="module")
def score_with_transformers(pocket):
    """Log-probabilities of the words' tokens but the first, and those that follow the prompt."""
    prompt = PromptFormat.from_folder(pocket.adapter)
    model = attach_adapter(load_base(pocket.base, "cpu", "none"), pocket.adapter).eval()

    @torch.inference_mode()
    def score(text, style):
        messages = [Message("user", text)]
        ids = prompt.encode_prompt(messages, style.token)
        words = prompt.find_words(messages, style.token)
        every = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        scored = range(words.start + 1, words.stop)
        return [every[place - 1, ids[place]].item() for place in scored], every[-1]

    return score


def score(client, text, style=SHORT, max_tokens=0):
    (choice,) = client.completions.create(
        model=f"tiny:{style.name}",
        prompt=text,
        echo=True,
        logprobs=1,
        max_tokens=max_tokens,
        temperature=0,
        seed=1234,
    ).choices
    return choice


@pytest.mark.parametrize("style", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("text", TEXTS, ids=["sentence", "word", "symbols", "long"])
def test_the_scores_of_an_echo_are_those_of_transformers(
    client, score_with_transformers, text, style
):
    wanted, _ = score_with_transformers(text, style)

    choice = score(client, text, style)

    found = choice.logprobs.token_logprobs
    assert choice.text == text
    assert found[0] is None
    assert found[1:] == pytest.approx(wanted, abs=1e-4)
    assert sum(found[1:]) == pytest.approx(sum(wanted), abs=1e-3)
    offsets = choice.logprobs.text_offset
    assert offsets == sorted(offsets)
    assert offsets[0] == 0
    for token, place in zip(choice.logprobs.tokens, offsets, strict=True):
        assert token.startswith("bytes:") or choice.text[place:].startswith(token)


def test_a_harness_that_wants_one_token_gets_one_more(client, score_with_transformers):
    wanted, following = score_with_transformers(TEXTS[0], SHORT)

    scores = score(client, TEXTS[0], max_tokens=1).logprobs

    *words, generated = scores.token_logprobs[1:]
    assert words == pytest.approx(wanted, abs=1e-4)
    assert generated == pytest.approx(following.max().item(), abs=1e-4)
    assert max(scores.top_logprobs[-1].values()) == generated


def test_many_at_once_get_the_scores_that_they_get_alone(client, score_with_transformers):
    texts = [f"{text} {number}" for number in range(4) for text in TEXTS]
    wanted = [sum(score_with_transformers(text, LONG)[0]) for text in texts]

    def chat_and_score(text):
        question = [{"role": "user", "content": text}]
        client.chat.completions.create(model="tiny:long", messages=question)
        return sum(score(client, text, LONG).logprobs.token_logprobs[1:])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(chat_and_score, texts))

    assert found == pytest.approx(wanted, abs=1e-3)


def test_a_chat_answer_is_scored_as_it_was_generated(client, score_with_transformers):
    _, following = score_with_transformers("Why?", SHORT)

    (choice,) = client.chat.completions.create(
        model="tiny:short",
        messages=[{"role": "user", "content": "Why?"}],
        logprobs=True,
        top_logprobs=3,
    ).choices

    content = choice.logprobs.content
    assert b"".join(bytes(token.bytes) for token in content).decode().strip() == (
        choice.message.content
    )
    best = following.topk(3).values.tolist()
    assert [top.logprob for top in content[0].top_logprobs] == pytest.approx(best, abs=1e-4)
