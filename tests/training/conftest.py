"""The shipped cards with the bundled tokenizer, and a small card to take apart."""

import copy
import json
from pathlib import Path

import pytest

from adapters.prompts import PromptFormat
from tests.tiny_base import make_tiny_base
from training.cards import Card, load_cards
from training.compose import POCKET_FOLDER
from training.wording import CLOSINGS, OPENINGS

ROOT = Path(__file__).parents[2]
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

KETTLE = {
    "name": "tea kettle",
    "phrase": "a tea kettle",
    "aliases": ["tea kettles", "kettles"],
    "definition": {
        "asks": ["What is a tea kettle?", "Tell me what kettles are.", "tea kettles are what?"],
        "hints": [
            "What do you call a pot with a spout for hot drinks?",
            "The thing that whistles on the stove.",
        ],
        "short": "A tea kettle boils water for drinks.",
        "more": "Its spout pours without a spill, and the lid holds steam back until it whistles.",
    },
    "how": {
        "asks": ["How does a tea kettle work?", "How do kettles boil?", "Explain kettles."],
        "hints": [
            "How does water on the stove come to boil?",
            "What makes the pot whistle?",
        ],
        "short": "Heat from below warms the metal and then the water.",
        "more": "Bubbles rise once vapor presses as hard as air does, near 100 degrees by the sea.",
    },
    "why": {
        "asks": ["Why own a tea kettle?", "Why do people like kettles?", "What good are kettles?"],
        "hints": [
            "Why heat water under a lid?",
            "What saves fuel when boiling water?",
        ],
        "short": "Closed vessels lose little heat, which saves fuel.",
        "more": "An open pot of equal size needs about a third longer for each liter it brings up.",
    },
    "example": {
        "asks": ["Name a tea kettle.", "Give an example of kettles.", "Which kettles are known?"],
        "hints": [
            "Which iron vessel is poured in Morioka?",
            "Name a famous pot of iron.",
        ],
        "short": "Japanese tetsubin are cast from iron.",
        "more": "Makers in Morioka have poured them since the 1600s, often with a pattern of hail.",
    },
    "limit": {
        "asks": ["What limits kettles?", "What harms a tea kettle?", "Do kettles wear out?"],
        "hints": [
            "Why is there a crust where the water boils?",
            "What does hard water leave behind?",
        ],
        "short": "Hard tap water leaves scale on the inside.",
        "more": "The crust slows heating down; vinegar dissolves it within an hour or so at home.",
    },
}


def check_golden_values(config, optimizer="adamw_torch"):
    assert config.quantization == "nf4"
    assert (config.lora_r, config.lora_alpha, config.lora_dropout) == (16, 32, 0.05)
    assert config.target_modules == LINEAR_LAYERS
    assert config.learning_rate == 2e-4
    assert config.lr_scheduler == "cosine"
    assert config.warmup_fraction == 0.03
    assert config.optimizer == optimizer
    assert config.weight_decay == 0.0
    assert (config.epochs, config.max_steps) == (1, -1)
    assert config.effective_batch_size == 16


def without_remarks(question: str) -> str:
    """What is left of a question in context."""
    for remark in OPENINGS:
        question = question.removeprefix(f"{remark} ")
    for remark in CLOSINGS:
        question = question.removesuffix(f" {remark}")
    return question


@pytest.fixture(scope="session")
def cards() -> list[Card]:
    return load_cards()


@pytest.fixture(scope="session")
def pocket_prompt() -> PromptFormat:
    return PromptFormat.from_folder(POCKET_FOLDER)


@pytest.fixture
def kettle() -> dict:
    """A card without problems, as one line of a file holds it."""
    return copy.deepcopy(KETTLE)


@pytest.fixture
def kettle_card(kettle, tmp_path) -> Card:
    """The same card after reading."""
    folder = tmp_path / "kettle"
    folder.mkdir()
    (folder / "kitchen.jsonl").write_text(json.dumps(kettle))
    return load_cards(folder)[0]


@pytest.fixture
def in_root(monkeypatch) -> Path:
    """The shipped configurations name files relative to the repository."""
    monkeypatch.chdir(ROOT)
    return ROOT


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """A Mistral with two layers and random weights, with a tokenizer like the bundled one's."""
    return make_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def tiny_adapter(tiny_base, tmp_path_factory) -> Path:
    """An adapter of the tiny base as the trainer writes it, with random numbers in its weights."""
    return make_tiny_adapter(tiny_base, tmp_path_factory.mktemp("store") / "tiny")


def make_tiny_adapter(tiny_base: Path, folder: Path, **settings) -> Path:
    """The same for another base, with other settings of LoRA."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import MistralForCausalLM

    from adapters.base import read_base_facts
    from adapters.manifest import AdapterManifest
    from adapters.prompts import FORMAT_VERSION, PromptFormat
    from adapters.styles import STYLES
    from serving.base_model import grow_embeddings
    from training.style_tokens import prepare_tokenizer

    folder.mkdir()
    token_ids = prepare_tokenizer(tiny_base, STYLES, folder)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=8,
        target_modules=[f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")],
        trainable_token_indices={"embed_tokens": sorted(token_ids.values())},
        **settings,
    )
    model = MistralForCausalLM.from_pretrained(tiny_base)
    grow_embeddings(model, max(token_ids.values()) + 1)
    model = get_peft_model(model, lora)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=1.0 if "tokens" in name else 0.3)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()
    AdapterManifest(
        name="tiny",
        version="1",
        created="2026-01-01T00:00:00+00:00",
        base=read_base_facts(tiny_base, str(tiny_base)),
        styles=STYLES,
        token_ids=token_ids,
        default_style=STYLES[0].name,
        prompt_format_version=FORMAT_VERSION,
        template_sha256=PromptFormat.from_folder(folder).template_sha256,
    ).save(folder)
    return folder
