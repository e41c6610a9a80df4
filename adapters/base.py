"""Facts about a base model's folder that tell whether an adapter fits it."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_SLICES = 16
_SLICE_BYTES = 4096


@dataclass(frozen=True)
class BaseFacts:
    """What an adapter remembers of the base model it was trained on."""

    name: str
    """Folder or hub id the trainer was given."""
    architecture: str
    """First entry of `architectures` in config.json: 'MistralForCausalLM'."""
    vocab_size: int
    """Rows of the base's embedding before any token was added."""
    fingerprint: str
    """sha256 over config, tokenizer, safetensors headers and slices of every shard."""


def read_base_facts(folder: Path, name: str) -> BaseFacts:
    """Read the facts of a base model in a local folder, a few hundred kilobytes at most.

    Raises:
        FileNotFoundError: the folder has no config.json or no safetensors weights.
        ValueError: config.json or a weight file is malformed.
    """
    config_bytes = (folder / "config.json").read_bytes()
    config = json.loads(config_bytes)
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise FileNotFoundError(f"{folder} holds no *.safetensors weights")
    digest = hashlib.sha256(config_bytes)
    for tokenizer in ("tokenizer.json", "tokenizer.model"):
        if (folder / tokenizer).is_file():
            digest.update((folder / tokenizer).read_bytes())
            break
    for shard in shards:
        for piece in _shard_pieces(shard):
            digest.update(piece)
    text_config: dict[str, Any] = config.get("text_config") or config
    return BaseFacts(
        name=name,
        architecture=str((config.get("architectures") or ["unknown"])[0]),
        vocab_size=int(text_config["vocab_size"]),
        fingerprint=digest.hexdigest(),
    )


def _shard_pieces(path: Path) -> Iterator[bytes]:
    """The header, then slices spread evenly over the data.

    One slice at the start would miss a fine-tune that left the embedding as it was.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header = _read_header(file, size, path)
        yield header
        start, step = 8 + len(header), max(1, (size - 8 - len(header)) // _SLICES)
        for offset in range(start, size, step):
            file.seek(offset)
            yield file.read(_SLICE_BYTES)


def _read_header(file: BinaryIO, size: int, path: Path) -> bytes:
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
    if length > size - 8:
        raise ValueError(f"{path} is not a whole safetensors file")
    return file.read(length)
