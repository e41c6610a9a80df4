"""Sizes of models that tests plan for, and the files of a small one."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from training.compose import POCKET_FOLDER
from training.config import TrainConfig
from training.resources.model_shape import Linear, ModelShape


def gated_shape(num_layers, hidden, intermediate, *, heads, key_heads, vocab) -> ModelShape:
    """A decoder built as Llama and Mistral are."""
    keys = key_heads * hidden // heads
    linears = (
        Linear("self_attn", "q_proj", hidden, hidden),
        Linear("self_attn", "k_proj", hidden, keys),
        Linear("self_attn", "v_proj", hidden, keys),
        Linear("self_attn", "o_proj", hidden, hidden),
        Linear("mlp", "gate_proj", hidden, intermediate),
        Linear("mlp", "up_proj", hidden, intermediate),
        Linear("mlp", "down_proj", intermediate, hidden),
    )
    num_other_weights = 2 * vocab * hidden + (2 * num_layers + 1) * hidden
    return ModelShape(
        num_layers=num_layers,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_heads=heads,
        head_size=hidden // heads,
        vocab_size=vocab,
        linears=linears,
        num_other_weights=num_other_weights,
    )


MISTRAL_7B = gated_shape(32, 4096, 14336, heads=32, key_heads=8, vocab=32768)
TINYLLAMA = gated_shape(22, 2048, 5632, heads=32, key_heads=4, vocab=32000)
SMALL = gated_shape(2, 64, 96, heads=4, key_heads=2, vocab=6144)


def settings(**values) -> TrainConfig:
    """The golden recipe, but for the values."""
    required = {"name": "tiny", "base_model": "base", "train_data": "rows.jsonl"}
    return TrainConfig(**{**required, **values})


def write_base(folder: Path, shape: ModelShape = SMALL) -> Path:
    """A base folder of the shape with random weights and the pocket tokenizer."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(POCKET_FOLDER / name, folder / name)
    config = {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_attention_heads": shape.num_heads,
        "num_hidden_layers": shape.num_layers,
        "num_key_value_heads": 2,
        "vocab_size": shape.vocab_size,
    }
    (folder / "config.json").write_text(json.dumps(config))
    hidden = shape.hidden_size
    sizes = {
        "model.embed_tokens": (shape.vocab_size, hidden),
        "lm_head": (shape.vocab_size, hidden),
        "model.norm": (hidden,),
    }
    for layer in range(shape.num_layers):
        prefix = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            sizes[f"{prefix}.{norm}"] = (hidden,)
        for linear in shape.linears:
            name = f"{prefix}.{linear.block}.{linear.name}"
            sizes[name] = (linear.out_features, linear.in_features)
    random = np.random.default_rng(0)
    tensors = {
        f"{name}.weight": (0.02 * random.standard_normal(size)).astype(np.float16)
        for name, size in sizes.items()
    }
    save_file(tensors, folder / "model.safetensors")
    return folder
