"""Facts about a base model's folder that tell whether an adapter fits it."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

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
    architecture, vocab_size = _read_config(config_bytes, folder / "config.json")
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
    return BaseFacts(name, architecture, vocab_size, digest.hexdigest())


def _read_config(config_bytes: bytes, path: Path) -> tuple[str, int]:
    """Architecture and vocabulary size."""
    try:
        config = json.loads(config_bytes)
        text_config = config.get("text_config") or config
        architectures = config.get("architectures") or ["unknown"]
        return str(architectures[0]), int(text_config["vocab_size"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no model configuration: {error!r}") from error


def _shard_pieces(path: Path) -> Iterator[bytes]:
    """The header, then slices spread evenly over the data.

    One slice at the start would miss a fine-tune that left the embedding as it was.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header = _read_header(file, size, path)
        yield header
        if 8 + len(header) + _data_bytes(header, path) != size:
            raise ValueError(f"{path} is not a whole safetensors file")
        start, step = 8 + len(header), max(1, (size - 8 - len(header)) // _SLICES)
        for offset in range(start, size, step):
            file.seek(offset)
            yield file.read(_SLICE_BYTES)


def _data_bytes(header: bytes, path: Path) -> int:
    """Length of the data that a header announces."""
    try:
        entries = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
        return max((int(entry["data_offsets"][1]) for entry in entries), default=0)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} has a malformed header: {error!r}") from error


def _read_header(file: BinaryIO, size: int, path: Path) -> bytes:
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
    if length > size - 8:
        raise ValueError(f"{path} is not a whole safetensors file")
    return file.read(length)
