"""Loads a base model, in 4-bit by default; trainer and server load it the very same way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from serving.config import Device, Quantization


def load_base(
    folder: Path,
    device: Device,
    quantization: Quantization,
    dtype: torch.dtype | None = None,
    rope_factor: float = 1.0,
) -> PreTrainedModel:
    """Load a base model in 4-bit (NF4, double quantization) or unquantized.

    It computes in `dtype`; None stands for `compute_dtype` of the device. Its positions are
    stretched by `rope_factor`.

    Raises:
        ValueError: the base has no rotary positions to stretch, or has stretched ones already.
    """
    place = choose_device(device)
    dtype = compute_dtype(place) if dtype is None else dtype
    settings = None
    if quantization == "nf4":
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    with _no_progress_bar():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            config=_config(folder, rope_factor),
            dtype=dtype,
            quantization_config=settings,
            device_map={"": place},
            trust_remote_code=False,
            use_safetensors=True,
        )
    return model


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Loading takes seconds, and its bar would run through the lines of a server or a trainer."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _config(folder: Path, rope_factor: float) -> PretrainedConfig:
    config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if rope_factor == 1.0:
        return config
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") != "default":
        found = rope.get("rope_type", "none")
        raise ValueError(f"rope_factor needs plain rotary positions; this base has {found}")
    text.rope_parameters = {**rope, "rope_type": "linear", "factor": rope_factor}
    text.max_position_embeddings = round(text.max_position_embeddings * rope_factor)
    return config


def choose_device(device: Device) -> torch.device:
    """The device a setting stands for; raises ValueError if it is wanted and missing."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but no CUDA device is usable here; use 'auto' or 'cpu'")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device is 'mps', but this is no Apple GPU that torch can use; use 'cpu'")
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if device == "mps" else "cpu")


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware computes in it, float16 on other GPUs, float32 on the CPU."""
    if device.type == "cpu":
        return torch.float32
    if device.type == "mps":
        return torch.float16
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def grow_embeddings(model: PreTrainedModel, num_tokens: int) -> None:
    """Add embedding rows for new tokens, up to a multiple of 64; nothing if there is room."""
    if num_tokens > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(num_tokens, pad_to_multiple_of=64)
