from types import SimpleNamespace

import pytest
import torch

from serving.config import EngineConfig
from serving.memory import plan_cache_tokens
from tests.serving.fakes import HashModel

SMALL = {"max_batch_size": 4, "max_prompt_tokens": 90, "max_new_tokens": 30}
"""At full length every request takes 128 tokens: 120 in whole blocks."""


@pytest.fixture
def processor(monkeypatch):
    """Says how much memory of the computer is free."""

    def set_free(num_bytes):
        monkeypatch.setattr(
            "serving.memory.psutil.virtual_memory", lambda: SimpleNamespace(available=num_bytes)
        )
        return HashModel()

    return set_free


@pytest.fixture
def gpu(monkeypatch):
    """Says how much memory of the GPU is free once what is unused was given back."""

    def set_free(num_bytes):
        emptied = []
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
        monkeypatch.setattr(
            torch.cuda,
            "mem_get_info",
            lambda device: (num_bytes if emptied else 0, 80_000_000_000),
        )
        model = HashModel()
        model.device = torch.device("cuda", 0)
        return model

    return set_free


def test_full_batches_of_the_longest_requests_fit_if_the_memory_is_there(processor):
    assert plan_cache_tokens(processor(10**12), EngineConfig(**SMALL)) == 4 * 128


def test_the_cache_takes_no_more_than_half_of_what_a_computer_has_free(processor):
    assert plan_cache_tokens(processor(600_000), EngineConfig(**SMALL)) == 300


@pytest.mark.parametrize(("gigabytes", "tokens"), [(1e-4, 100), (2.5e-4, 250), (1.0, 512)])
def test_the_setting_decides_whatever_is_free(processor, gigabytes, tokens):
    config = EngineConfig(kv_cache_gb=gigabytes, **SMALL)

    assert plan_cache_tokens(processor(0), config) == tokens


def test_a_token_takes_what_the_model_says(processor):
    model = processor(600_000)
    model.cache_bytes_per_token = 6000

    assert plan_cache_tokens(model, EngineConfig(**SMALL)) == 50


@pytest.mark.parametrize(
    ("free", "tokens"), [(2_000_000_000, 300_000), (1_700_000_000, 30_000), (10**12, 512 * 1000)]
)
def test_on_a_gpu_a_tenth_and_room_to_work_stay_free(gpu, free, tokens):
    config = EngineConfig(**{**SMALL, "max_batch_size": 4000})

    assert plan_cache_tokens(gpu(free), config) == tokens


@pytest.mark.parametrize("tokens", [0, 31])
def test_too_little_memory_for_anything_is_refused_with_the_numbers(processor, tokens):
    with pytest.raises(ValueError, match=rf"0\.000 GB hold only {tokens} tokens.*kv_cache_gb"):
        plan_cache_tokens(processor(2000 * tokens), EngineConfig(**SMALL))


def test_a_full_gpu_is_refused_too(gpu):
    with pytest.raises(ValueError, match="hold only 0 tokens"):
        plan_cache_tokens(gpu(1_000_000_000), EngineConfig(**SMALL))


def test_the_least_that_is_accepted_holds_the_shortest_request(processor):
    assert plan_cache_tokens(processor(64_000), EngineConfig(**SMALL)) == 32
