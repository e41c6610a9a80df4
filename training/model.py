"""The model to train: a frozen 4-bit base with LoRA pairs and trainable style-token rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import (
    EvaConfig,
    LoraConfig,
    PeftModel,
    get_eva_state_dict,
    get_peft_model,
    initialize_lora_eva_weights,
)
from peft.utils.other import TrainableTokensWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapters.prompts import PromptFormat
from adapters.styles import Style
from serving.base_model import grow_embeddings, load_base
from training.config import TrainConfig


def load_trainable(
    config: TrainConfig,
    folder: Path,
    prompt: PromptFormat,
    token_ids: dict[str, int],
    batches: Sequence[dict[str, Tensor]] = (),
) -> PeftModel:
    """The base as the server will load it, with an adapter to train: a new one or `adapter`.

    What is trained is float32, whatever the base computes in: steps of 2e-4 would vanish in the
    rounding of bfloat16.

    Args:
        config: settings of the run.
        folder: the base model.
        prompt: the prompt format of the adapter.
        token_ids: id of each style's token, by style name.
        batches: rows for `lora_init: eva` to start from: `input_ids`, `attention_mask` and
            `labels`, each [rows, tokens].

    Raises:
        ValueError: the base lacks linear layers of the names to train, listing those it has.
    """
    model = load_base(folder, config.device, config.quantization, rope_factor=config.rope_factor)
    grow_embeddings(model, max(token_ids.values()) + 1)
    model.config.use_cache = False
    _give_tied_heads_a_bias()
    if config.adapter is not None:
        peft_model = PeftModel.from_pretrained(model, config.adapter, is_trainable=True)
    else:
        _check_targets(model, config.target_modules)
        _describe_rows(model, prompt, config.styles, token_ids)
        peft_model = _with_new_lora(model, lora_config(config, token_ids), batches)
    cast_trained(peft_model, torch.float32)
    return peft_model


def lora_config(config: TrainConfig, token_ids: dict[str, int]) -> LoraConfig:
    """LoRA on the linear layers, and of the embedding the style tokens' rows only.

    Whole copies of embedding and output matrix, the other way of training new tokens, would add
    over a gigabyte to a 7B adapter.
    """
    options: dict[str, Any] = {}
    if config.lora_init == "eva":
        # the same rank in every layer, as the server and every export expect
        options = {"init_lora_weights": "eva", "eva_config": EvaConfig(rho=1.0)}
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_rslora=config.rslora,
        use_dora=config.dora,
        bias="none",
        target_modules=list(config.target_modules),
        trainable_token_indices={"embed_tokens": sorted(token_ids.values())},
        **options,
    )


def cast_trained(model: nn.Module, dtype: torch.dtype) -> None:
    """Put what is trained, and nothing else, into another precision."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def _with_new_lora(
    model: PreTrainedModel, settings: LoraConfig, batches: Sequence[dict[str, Tensor]]
) -> PeftModel:
    if settings.init_lora_weights != "eva":
        return get_peft_model(model, settings)
    # EVA starts each A from the main directions of what its layer is given (arXiv:2410.07170).
    # PEFT looks at the token rows too, which have none: it is asked before they are there.
    linear = dataclasses.replace(settings, trainable_token_indices=None)
    directions = get_eva_state_dict(model, batches, peft_config=linear, show_progress_bar=False)
    peft_model = get_peft_model(model, settings, low_cpu_mem_usage=True)
    renamed = {f"base_model.model.{name}": matrix for name, matrix in directions.items()}
    initialize_lora_eva_weights(peft_model, eva_state_dict=renamed)
    # whoever loads the adapter later finds its matrices in the file
    settings = peft_model.peft_config["default"]
    settings.init_lora_weights, settings.eva_config = True, None
    return peft_model


def _check_targets(model: PreTrainedModel, names: Sequence[str]) -> None:
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
    }
    if missing := sorted(set(names) - linear):
        raise ValueError(
            f"target_modules: the base has no linear layer {', '.join(missing)}; "
            f"it has {', '.join(sorted(linear))}"
        )


def _give_tied_heads_a_bias() -> None:
    """TRL asks the output layer for its bias; PEFT's wrapper of a tied one has none to show."""
    if not hasattr(TrainableTokensWrapper, "bias"):
        TrainableTokensWrapper.bias = property(
            lambda wrapper: getattr(wrapper.token_adapter.base_layer, "bias", None)
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
