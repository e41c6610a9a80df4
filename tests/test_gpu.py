"""The same path on a CUDA device: 4-bit training in bfloat16, then answers from the GPU."""

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adapters.prompts import Message
from serving.config import EngineConfig
from serving.engine import ModelEngine
from serving.types import GenerationRequest
from tests.tiny_base import make_tiny_base
from training.config_file import load_config
from training.train import train

ROOT = Path(__file__).parent.parent

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    work = tmp_path_factory.mktemp("gpu")
    make_tiny_base(work / "base", hidden_size=128, intermediate_size=256)
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
