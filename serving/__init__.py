"""Runs a base model with an adapter. Knows nothing of HTTP."""
