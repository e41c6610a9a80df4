"""Attaches an adapter to its base model. Only this file of the server names PEFT."""

from __future__ import annotations

import gc
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import (
    LoraConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from adapters.manifest import WEIGHTS_NAME, AdapterManifest, AdapterMismatchError
from adapters.prompts import PromptFormat
from serving.base_model import choose_device, compute_dtype, grow_embeddings, load_base
from serving.config import EngineConfig
from serving.decoder import Decoder, UnsupportedModelError
from serving.plain import PlainDecoder
from serving.runner import StepModel
from serving.startup import check_start, resolve_base_folder

logger = logging.getLogger(__name__)

_TOKEN_ROWS_SUFFIX = "trainable_tokens_delta"
# Of known range: people have served them in float16 for years. The sums that grow from layer to
# layer are float32 in `serving.decoder` anyway.
_FLOAT16_ARCHITECTURES = ("MistralForCausalLM", "LlamaForCausalLM")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to generate, with what its prompts and answers need."""

    model: StepModel
    manifest: AdapterManifest
    prompt: PromptFormat
    suppressed_ids: tuple[int, ...]
    """Control tokens, and rows that no token of the tokenizer has: never generated."""


def load(config: EngineConfig, *, with_adapter: bool = True) -> LoadedModel:
    """Load base and adapter as the configuration says; errors as in `check_start`.

    Without the adapter, the base keeps its own weights but reads prompts with the adapter's
    tokenizer: what an adapter is compared with.
    """
    manifest = check_start(config)
    prompt = PromptFormat.from_folder(config.adapter)
    folder = resolve_base_folder(config.base_model or manifest.base.name)
    model = load_base(
        folder,
        config.device,
        config.quantization,
        choose_dtype(config, manifest.base.architecture),
        manifest.rope_factor,
    )
    grow_embeddings(model, max(manifest.token_ids.values()) + 1)
    if with_adapter:
        model = attach_adapter(model, config.adapter)
    step_model = lay_out(model.eval(), config)
    gc.collect()  # what loading leaves behind holds tensors
    unused = set(range(prompt.num_tokens, step_model.vocab_size))
    return LoadedModel(
        model=step_model,
        manifest=manifest,
        prompt=prompt,
        suppressed_ids=tuple(sorted((prompt.control_ids | unused) - {prompt.eos_id})),
    )


def choose_dtype(config: EngineConfig, architecture: str) -> torch.dtype:
    """What a model of that architecture is to compute in."""
    if config.dtype != "auto":
        dtype: torch.dtype = getattr(torch, config.dtype)
        return dtype
    device = choose_device(config.device)
    if device.type == "cuda" and architecture in _FLOAT16_ARCHITECTURES:
        return torch.float16
    return compute_dtype(device)


def lay_out(model: PreTrainedModel, config: EngineConfig) -> StepModel:
    """The model as `serving.decoder` runs it, or as it is if that does not know its kind."""
    try:
        return Decoder(model, max_length=config.max_length, dense=config.weights == "bf16")
    except UnsupportedModelError as error:
        logger.warning("this model runs row by row, which is slow: %s", error)
        return PlainDecoder(model, max_length=config.max_length)


def attach_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Add the LoRA layers, unmerged, and write the trained token rows into the embedding.

    Raises:
        AdapterMismatchError: tensors are missing, left over or of another shape.
    """
    tensors = load_file(folder / WEIGHTS_NAME)
    rows = {key: tensors.pop(key) for key in list(tensors) if key.endswith(_TOKEN_ROWS_SUFFIX)}
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    token_ids = (settings.pop("trainable_token_indices", None) or {}).get("embed_tokens", [])
    settings.pop("base_model_name_or_path", None)  # the manifest tells the base
    problems = _fold_token_rows(model, token_ids, list(rows.values()))
    config = LoraConfig(**{**settings, "inference_mode": True})
    peft_model = get_peft_model(model, config, autocast_adapter_dtype=False)
    problems += _misfits(
        get_peft_model_state_dict(peft_model, save_embedding_layers=False), tensors
    )
    if not problems:
        set_peft_model_state_dict(peft_model, tensors)
    if problems:
        raise AdapterMismatchError(folder, problems)
    merged: PreTrainedModel = peft_model.get_base_model()
    for name, parameter in merged.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(model.dtype)
    return merged


def _misfits(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """Tensors that are missing, left over or of another shape."""
    problems = [f"{WEIGHTS_NAME} lacks {key}" for key in sorted(set(wanted) - set(found))]
    problems += [f"{WEIGHTS_NAME} has a stray {key}" for key in sorted(set(found) - set(wanted))]
    for key in sorted(set(wanted) & set(found)):
        want, have = tuple(wanted[key].shape), tuple(found[key].shape)
        if want != have:
            problems.append(f"{WEIGHTS_NAME}: {key} has the shape {have}, not {want}")
    return problems


def _fold_token_rows(model: PreTrainedModel, token_ids: list[int], rows: list[Tensor]) -> list[str]:
    """Write the rows [tokens, hidden] of new tokens into the embedding; returns what misfits."""
    weight = model.get_input_embeddings().weight
    want = (len(token_ids), weight.shape[1])
    if len(rows) != 1 or tuple(rows[0].shape) != want:
        shapes = [tuple(row.shape) for row in rows]
        return [f"{WEIGHTS_NAME}: token rows of shape {want} expected, found {shapes}"]
    with torch.no_grad():
        weight[token_ids] = rows[0].to(weight)
    return []
