"""What a run is made of: a base, a tokenizer with the style tokens, and examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapters.base import BaseFacts, read_base_facts
from adapters.manifest import check_adapter
from adapters.prompts import PromptFormat
from serving.startup import resolve_base_folder
from training.config import TrainConfig
from training.dataset.load import Examples, load_examples
from training.style_tokens import prepare_tokenizer

_EVA_ROWS = 64
_EVA_BATCH = 4
_IGNORED = -100


@dataclass(frozen=True)
class Material:
    """Everything that is known before a model is loaded."""

    folder: Path
    """Holds the tokenizer; the adapter's weights come into it."""
    base_folder: Path
    base: BaseFacts
    token_ids: dict[str, int]
    """Id of each style's token, by style name."""
    prompt: PromptFormat
    examples: Examples

    def data_sha256(self) -> dict[str, str]:
        """Digest of each source, by the setting that names it."""
        names = ("train_data", "heldout_data")
        digests = [source.sha256 for source in self.examples.report.sources]
        return dict(zip(names, digests, strict=False))

    def first_batches(self) -> list[dict[str, Tensor]]:
        """A few examples as a model takes them, for EVA."""
        rows = self.examples.train.select(range(min(_EVA_ROWS, len(self.examples.train))))
        lists = list(rows)
        return [_pad(lists[i : i + _EVA_BATCH]) for i in range(0, len(lists), _EVA_BATCH)]


def gather_material(config: TrainConfig, folder: Path) -> Material:
    """Read base, data and styles; writes the tokenizer into `folder`, which it makes.

    Raises:
        ValueError: listing all rows that cannot be used, or how the adapter to start from differs.
        FileNotFoundError: there is no such base model.
    """
    base_folder = resolve_base_folder(config.base_model)
    base = read_base_facts(base_folder, config.base_model)
    folder.mkdir()
    token_ids = prepare_tokenizer(base_folder, config.styles, folder)
    if config.adapter is not None:
        _check_start(config, config.adapter, base, token_ids)
    prompt = PromptFormat.from_folder(folder)
    return Material(folder, base_folder, base, token_ids, prompt, load_examples(config, prompt))


def _check_start(
    config: TrainConfig, adapter: Path, base: BaseFacts, token_ids: dict[str, int]
) -> None:
    """The adapter to go on with fits the base, and means the same by the same tokens."""
    manifest = check_adapter(adapter, base)
    have = {style.name: (style.token, manifest.token_ids[style.name]) for style in manifest.styles}
    want = {style.name: (style.token, token_ids[style.name]) for style in config.styles}
    if have != want:
        raise ValueError(
            f"adapter: {adapter} was trained with the style tokens {have}, "
            f"this run would use {want}; give it the same styles"
        )
    if manifest.rope_factor != config.rope_factor:
        raise ValueError(
            f"rope_factor must be {manifest.rope_factor}, as in the adapter to start from, "
            f"not {config.rope_factor}"
        )


def _pad(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(values: list[list[int]], fill: int) -> Tensor:
        return torch.tensor([value + [fill] * (longest - len(value)) for value in values])

    ids = [row["input_ids"] for row in rows]
    labels = [
        [
            token_id if learned else _IGNORED
            for token_id, learned in zip(row["input_ids"], row["completion_mask"], strict=True)
        ]
        for row in rows
    ]
    return {
        "input_ids": padded(ids, 0),
        "attention_mask": padded([[1] * len(value) for value in ids], 0),
        "labels": padded(labels, _IGNORED),
    }
