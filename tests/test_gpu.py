"""The same path on a CUDA device: 4-bit training in bfloat16, then answers from the GPU."""

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import MistralConfig, MistralForCausalLM

from adapters.prompts import Message
from serving.config import EngineConfig
from serving.engine import ModelEngine
from serving.types import GenerationRequest
from training.config_file import load_config
from training.pocket.tokenizer import save_tokenizer, train_tokenizer
from training.train import train

ROOT = Path(__file__).parent.parent

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    work = tmp_path_factory.mktemp("gpu")
    save_tokenizer(train_tokenizer(["What is rate limiting?"] * 3, vocab_size=384), work / "base")
    MistralForCausalLM(
        MistralConfig(
            vocab_size=384,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).save_pretrained(work / "base")
    rows = [{"prompt": f"Number {n}?", "completion": "A number."} for n in range(8)]
    (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = [
        f"base_model={work / 'base'}",
        f"train_data={work / 'rows.jsonl'}",
        "heldout_data=null",
        f"output={work / 'adapter'}",
        f"runs={work}",
        "max_steps=3",
        "evaluate_prompts=0",
        "effective_batch_size=4",
        "micro_batch_size=4",
        "device=cuda",
    ]
    return train(load_config(ROOT / "training" / "configs" / "mistral-7b-golden.yaml", overrides))


def test_the_adapter_is_saved_in_the_precision_it_is_served_in(adapter):
    tensors = load_file(adapter / "adapter_model.safetensors")

    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_the_engine_answers_on_the_gpu_and_tells_its_memory(adapter):
    engine = ModelEngine(EngineConfig(adapter=adapter, device="cuda"))
    engine.start()
    while engine.status().state == "loading":
        time.sleep(0.05)

    completion = engine.generate(GenerationRequest((Message("user", "hi"),), "verbose", seed=1))

    assert completion.num_tokens >= 64
    assert engine.status().device.startswith("cuda")
    assert engine.status().gpu_memory_gb > 0
    engine.stop()
