"""The contract between trainer and server: styles, prompts and the adapter manifest."""
