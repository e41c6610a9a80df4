"""A base that loads and trains in moments."""

from pathlib import Path


def make_tiny_base(folder: Path, **settings) -> Path:
    """A Mistral with two layers and random weights, with a tokenizer like the bundled one's.

    `settings` replace values of its configuration.
    """
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    from training.pocket.tokenizer import save_tokenizer, train_tokenizer

    texts = ["What is rate limiting? Rate limiting caps how many requests a client may send."] * 3
    save_tokenizer(train_tokenizer(texts, vocab_size=384), folder)
    shape = {
        "vocab_size": 384,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **settings,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MistralForCausalLM(MistralConfig(**shape)).save_pretrained(folder)
    return folder
