"""Offline trainer: JSONL in, adapter folder out."""
