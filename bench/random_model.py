"""A base of Mistral-7B's shape with random weights, and an adapter for it: speed needs no more."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

from training.config_file import load_config
from training.train import train

GOLDEN_CONFIG = Path("training/configs/mistral-7b-golden.yaml")
_TOKENIZER = Path("models/pocket")


def make_random_base(folder: Path, num_layers: int = 32) -> Path:
    """Save a bfloat16 model of Mistral-7B-v0.3's shape with the pocket tokenizer, if not there.

    Needs a CUDA device, and 14.5 GB of disk for all 32 layers. As in a trained model, what a layer
    adds is small beside what it adds to; with all weights alike, every layer would multiply the
    rounding errors of the one before.
    """
    if (folder / "config.json").is_file():
        return folder
    config = MistralConfig(
        vocab_size=32768,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=num_layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        sliding_window=None,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = MistralForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_()
        for layer in model.model.layers:
            for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
                linear.weight.mul_((2 * num_layers) ** -0.5)
    model.save_pretrained(folder, max_shard_size="5GB")
    AutoTokenizer.from_pretrained(_TOKENIZER).save_pretrained(folder)
    del model
    torch.cuda.empty_cache()
    return folder


def make_random_adapter(folder: Path, base: Path) -> Path:
    """Train the golden recipe for a moment, if the folder is not there."""
    if not (folder / "manifest.json").is_file():
        overrides = [f"base_model={base}", f"output={folder}", "max_steps=3", "evaluate_prompts=0"]
        nothing_held_out = ["heldout_data=null", "validation_share=0"]
        train(load_config(GOLDEN_CONFIG, [*overrides, *nothing_held_out]))
    return folder
