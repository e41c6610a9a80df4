"""Layers of transformers and PEFT in leaner forms: same numbers, fewer steps, less memory."""
