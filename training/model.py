"""The model to train: a frozen 4-bit base with LoRA pairs and trainable style-token rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from adapters.prompts import PromptFormat
from adapters.styles import Style
from serving.base_model import grow_embeddings, load_base
from training.config import TrainConfig


def load_trainable_base(
    config: TrainConfig, folder: Path, prompt: PromptFormat, token_ids: dict[str, int]
) -> PreTrainedModel:
    """The base as the server will load it, its style rows set to what their descriptions say."""
    model = load_base(folder, config.device, config.quantization)
    grow_embeddings(model, max(token_ids.values()) + 1)
    _describe_rows(model, prompt, config.styles, token_ids)
    model.config.use_cache = False
    return model


def lora_config(config: TrainConfig, token_ids: dict[str, int]) -> LoraConfig:
    """LoRA on the linear layers, and of the embedding the style tokens' rows only.

    Whole copies of embedding and output matrix, the other way of training new tokens, would add
    over a gigabyte to a 7B adapter.
    """
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        bias="none",
        target_modules=list(config.target_modules),
        trainable_token_indices={"embed_tokens": sorted(token_ids.values())},
    )


def _describe_rows(
    model: PreTrainedModel,
    prompt: PromptFormat,
    styles: Sequence[Style],
    token_ids: dict[str, int],
) -> None:
    """Start each style's row at the mean embedding of its description, as long as a word's.

    Reserved rows of a base may all be alike; these tell the styles apart from the first step.
    """
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        for style in styles:
            words = weight[prompt.encode_words(f"{style.name} {style.description}")].float()
            mean, length = words.mean(dim=0), words.norm(dim=1).median()
            weight[token_ids[style.name]] = (mean * length / mean.norm()).to(weight)
