"""Makes the bundled base model: tokenizer, pre-training corpus and pre-training."""
