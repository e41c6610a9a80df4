"""A base that trains in moments: two layers with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import MistralConfig, MistralForCausalLM

_POCKET = Path("models/pocket")


def make_tiny_base(folder: Path) -> Path:
    """Save a Mistral of two layers with random weights and the bundled base's tokenizer."""
    torch.manual_seed(0)
    MistralForCausalLM(
        MistralConfig(
            vocab_size=json.loads((_POCKET / "config.json").read_text())["vocab_size"],
            hidden_size=64,  # a multiple of what shares a scale in 4-bit
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).save_pretrained(folder)
    for path in _POCKET.glob("tokenizer*"):
        shutil.copy(path, folder)
    return folder
