import math

import pytest
import torch

from adapters.prompts import Message
from serving.config import EngineConfig
from serving.loader import attach_adapter, load
from training.judging import loss
from training.judging.loss import Loss, measure_loss, total


def test_rows_together_count_by_their_tokens():
    found = total([Loss(1.0, 2, 10), Loss(3.0, 4, 30)])

    assert found == Loss(2.5, 6, 40)


def test_a_perplexity_beyond_all_numbers_is_infinite_and_null_in_json():
    huge = Loss(1000.0, 1, 1)

    assert huge.perplexity == math.inf
    assert huge.to_dict() == {"loss": 1000.0, "num_rows": 1, "num_tokens": 1, "perplexity": None}
    assert Loss(0.0, 1, 1).to_dict()["perplexity"] == 1.0


@pytest.fixture(scope="module")
def loaded(tiny_adapter):
    return load(EngineConfig(adapter=tiny_adapter, device="cpu", quantization="none"))


@pytest.fixture(scope="module")
def examples(loaded):
    texts = [("What is a queue?", "A line that waits."), ("Why?", "Because " * 30), ("Hm?", "No")]
    return [
        loaded.prompt.encode_example([Message("user", words)], answer, "<STYLE_TERSE>")
        for words, answer in texts
    ]


@pytest.fixture(scope="module")
def reference(tiny_adapter, tiny_base, examples):
    """Sum of the losses of all answer tokens and their number, as transformers computes them."""
    from transformers import MistralForCausalLM

    model = attach_adapter(MistralForCausalLM.from_pretrained(tiny_base), tiny_adapter).eval()
    losses = []
    for example in examples:
        ids = torch.tensor([example.input_ids])
        labels = ids.clone()
        labels[0, : example.prompt_length] = -100
        with torch.no_grad():
            mean = model(input_ids=ids, labels=labels).loss.item()
        number = len(example.input_ids) - example.prompt_length
        losses.append((mean * number, number))
    return sum(part for part, _ in losses), sum(number for _, number in losses)


@pytest.mark.slow
@pytest.mark.parametrize("tokens_per_pass", [256, 7])
def test_the_loss_is_that_of_transformers_every_token_counting_the_same(
    loaded, examples, reference, monkeypatch, tokens_per_pass
):
    monkeypatch.setattr(loss, "_TOKENS_PER_PASS", tokens_per_pass)

    found = measure_loss(loaded.model, examples)

    whole, number = reference
    assert (found.num_rows, found.num_tokens) == (3, number)
    assert found.loss == pytest.approx(whole / number, abs=1e-5)


@pytest.mark.slow
def test_a_model_that_runs_row_by_row_gives_the_same_loss(
    tiny_adapter, tiny_base, examples, reference
):
    from transformers import MistralForCausalLM

    from serving.plain import PlainDecoder

    model = attach_adapter(MistralForCausalLM.from_pretrained(tiny_base), tiny_adapter).eval()

    found = measure_loss(PlainDecoder(model, max_length=512), examples)

    assert found.loss == pytest.approx(reference[0] / reference[1], abs=1e-5)
