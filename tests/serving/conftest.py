"""A tiny Mistral with random weights, an adapter for it, and engines that run the two."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import MistralConfig, MistralForCausalLM

from adapters.base import read_base_facts
from adapters.manifest import AdapterManifest
from adapters.prompts import FORMAT_VERSION, PromptFormat
from adapters.styles import Preset, Style
from serving.config import EngineConfig
from serving.engine import ModelEngine
from serving.loader import LoadedModel, load

SHORT = Style("short", "<STYLE_SHORT>", "One word.", Preset(0.0, 1.0, 0, 4))
LONG = Style("long", "<STYLE_LONG>", "A few words.", Preset(0.8, 0.9, 6, 12))
STYLES = (SHORT, LONG)

NUM_TOKENS = 320
TEXTS = [
    "What is rate limiting? It caps how many requests a client may send in a minute.",
    "A cache keeps what was computed before; a queue keeps what has to wait for its turn.",
    "Please answer briefly, or be detailed: both are fine with the server, the model and me.",
]
# Two of them are reserved, as the newer Mistrals have hundreds, and may become style tokens.
CONTROL_TOKENS = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[control_0]", "[control_1]"]


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A base model and an adapter for it, on disk."""

    base: Path
    adapter: Path
    token_ids: dict[str, int]
    rows: torch.Tensor
    """The trained rows [styles, hidden], in the order of `token_ids`."""

    def config(self, **values: Any) -> EngineConfig:
        """Settings that run the two exactly as they were saved."""
        return EngineConfig(
            **{"adapter": self.adapter, "device": "cpu", "quantization": "none", **values}
        )


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that share work this small wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer_json() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=NUM_TOKENS,
            special_tokens=CONTROL_TOKENS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    assert tokenizer.get_vocab_size() == NUM_TOKENS
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer.to_str()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, tokenizer_json: str) -> Tiny:
    """The adapter's style tokens take reserved rows; the base has rows that no token uses."""
    renamed = tokenizer_json
    for number, style in enumerate(STYLES):
        renamed = renamed.replace(f"[control_{number}]", style.token)
    base = _write_base(tmp_path_factory.mktemp("base"), tokenizer_json, NUM_TOKENS + 64)
    return _write_adapter(tmp_path_factory.mktemp("adapter"), base, renamed)


@pytest.fixture(scope="session")
def tiny_grown(tmp_path_factory: pytest.TempPathFactory, tokenizer_json: str) -> Tiny:
    """The adapter's style tokens lie beyond the base's last row."""
    base = _write_base(tmp_path_factory.mktemp("base"), tokenizer_json, NUM_TOKENS)
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.add_special_tokens([style.token for style in STYLES])
    return _write_adapter(tmp_path_factory.mktemp("adapter"), base, tokenizer.to_str())


@pytest.fixture
def own_tiny(tiny: Tiny, tmp_path: Path) -> Tiny:
    """A copy of the adapter, to be damaged."""
    folder = tmp_path / "adapter"
    shutil.copytree(tiny.adapter, folder)
    return dataclasses.replace(tiny, adapter=folder)


@pytest.fixture(scope="session")
def loaded(tiny: Tiny) -> LoadedModel:
    """Not to be changed."""
    return load(tiny.config())


@pytest.fixture
def start_engine(tiny: Tiny) -> Iterator[Callable[..., ModelEngine]]:
    """Starts engines that are ready, and stops them after the test."""
    engines: list[ModelEngine] = []

    def start(**values: Any) -> ModelEngine:
        # A request that is never answered fails its test in seconds, not minutes.
        engine = ModelEngine(tiny.config(**{"request_timeout_seconds": 15.0, **values}))
        engines.append(engine)
        return start_and_wait(engine)

    yield start
    for engine in engines:
        if engine.status().state != "stopped":
            engine.stop()


def start_and_wait(engine: ModelEngine) -> ModelEngine:
    """Start an engine and return it when it is ready."""
    engine.start()
    wait_until(lambda: engine.status().state != "loading")
    assert engine.status().state == "ready", engine.status().detail
    return engine


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 20) -> None:
    """Return as soon as another thread has made the condition true."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        threading.Event().wait(0.001)


def save_manifest(folder: Path, base: Path, token_ids: dict[str, int]) -> AdapterManifest:
    """Describe a folder as it is now, so that its checksums are right whatever is in it."""
    return AdapterManifest(
        name="tiny",
        version="1",
        created="2026-01-02T03:04:05+00:00",
        base=read_base_facts(base, str(base)),
        styles=STYLES,
        token_ids=token_ids,
        default_style=SHORT.name,
        prompt_format_version=FORMAT_VERSION,
        template_sha256=PromptFormat.from_folder(folder).template_sha256,
    ).save(folder)


def _write_base(folder: Path, tokenizer_json: str, num_rows: int) -> Path:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=num_rows,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        sliding_window=None,
        # Far larger than for training: attention must matter to what is generated.
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = MistralForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[config.eos_token_id] = 0.0  # answers go on until their limit
    model.save_pretrained(folder)
    _write_tokenizer(folder, tokenizer_json)
    return folder


def _write_adapter(folder: Path, base: Path, tokenizer_json: str) -> Tiny:
    """What the trainer leaves behind, with random numbers in place of trained ones."""
    _write_tokenizer(folder, tokenizer_json)
    prompt = PromptFormat.from_folder(folder)
    token_ids = {style.name: prompt.token_id(style.token) for style in STYLES}
    model = MistralForCausalLM.from_pretrained(base)
    if max(token_ids.values()) >= model.config.vocab_size:
        model.resize_token_embeddings(max(token_ids.values()) + 1, pad_to_multiple_of=64)
    peft_model = get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=4,
            lora_alpha=8,
            target_modules=[f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")],
            trainable_token_indices={"embed_tokens": sorted(token_ids.values())},
        ),
    )
    for name, parameter in peft_model.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=1.0 if "tokens" in name else 0.3)
    peft_model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()
    save_manifest(folder, base, token_ids)
    [rows] = [value for name, value in peft_model.named_parameters() if "tokens_delta" in name]
    return Tiny(base, folder, token_ids, rows.detach())


def _write_tokenizer(folder: Path, tokenizer_json: str) -> None:
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    )
