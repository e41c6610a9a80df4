"""In which precision a model computes."""

import pytest
import torch

from serving import loader
from serving.config import EngineConfig


def on_gpu(monkeypatch):
    """As if there were one that computes in bfloat16."""
    monkeypatch.setattr(loader, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)


@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [
        ("MistralForCausalLM", torch.float16),
        ("LlamaForCausalLM", torch.float16),
        ("Qwen2ForCausalLM", torch.bfloat16),
    ],
)
def test_a_gpu_computes_in_float16_where_numbers_are_known_to_fit(monkeypatch, architecture, dtype):
    on_gpu(monkeypatch)

    assert loader.choose_dtype(EngineConfig(), architecture) == dtype


def test_a_cpu_computes_in_float32():
    assert loader.choose_dtype(EngineConfig(device="cpu"), "MistralForCausalLM") == torch.float32


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_what_is_set_is_computed_in(monkeypatch, dtype):
    on_gpu(monkeypatch)

    found = loader.choose_dtype(EngineConfig(dtype=dtype), "MistralForCausalLM")

    assert found == getattr(torch, dtype)
