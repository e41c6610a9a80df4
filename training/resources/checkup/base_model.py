"""The files of the base model: there, whole, and of a shape that can be trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from adapters.base import read_base_facts
from serving.startup import resolve_base_folder
from training.config import TrainConfig
from training.resources.checkup.finding import Finding, readable_bytes
from training.resources.memory import targets
from training.resources.model_shape import ModelShape, read_shape

_SUBJECT = "base model"
_HUB_TIMEOUT_SECONDS = 10

BytesOnHub = Callable[[str], int]
"""Size of a model's weights on the hub; raises an exception of any kind if it cannot be had."""


def ask_hub(name: str) -> int:
    """Bytes of the safetensors files of a model of the hub."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(name, files_metadata=True, timeout=_HUB_TIMEOUT_SECONDS)
    files = [file for file in info.siblings or [] if file.rfilename.endswith(".safetensors")]
    return sum(file.size or 0 for file in files)


def find_base(
    config: TrainConfig, bytes_on_hub: BytesOnHub = ask_hub
) -> tuple[Path | None, list[Finding]]:
    """The base's folder if it is on this machine; nothing is downloaded to find out."""
    name = config.base_model
    try:
        return resolve_base_folder(name, download=False), []
    except FileNotFoundError:
        pass
    try:
        size = readable_bytes(bytes_on_hub(name))
    except Exception as error:  # offline, unknown, or closed to this user: the hub tells which
        text = f"{name} is no folder here, and the hub does not give it: {error}"
        fix = "set base_model to a folder with the model, or to a hub id that can be reached"
        return None, [Finding("problem", _SUBJECT, text, fix)]
    text = f"{name} is not on this machine yet; training downloads {size} from the hub"
    fix = f"fetch it beforehand: hf download {name}"
    return None, [Finding("warning", _SUBJECT, text, fix)]


def check_base(folder: Path, config: TrainConfig) -> tuple[ModelShape | None, list[Finding]]:
    """The base's shape, and whether its files are whole and have what is to be trained."""
    missing = _missing_files(folder)
    if missing:
        return None, [_refuse(text) for text in missing]
    try:
        # reads a slice of each file, so that a download that broke off is noticed
        facts = read_base_facts(folder, config.base_model)
        shape = read_shape(folder)
        targets(shape, config)
    except (OSError, ValueError) as error:
        return None, [_refuse(str(error))]
    num_weights = shape.num_linear_weights + shape.num_other_weights
    text = f"{folder}, {facts.architecture}, {num_weights / 1e9:.2f} billion weights, files whole"
    return shape, [Finding("ok", _SUBJECT, text)]


def _refuse(text: str) -> Finding:
    fix = "fetch the model again, or set another base_model or target_modules"
    return Finding("problem", _SUBJECT, text, fix)


def _missing_files(folder: Path) -> list[str]:
    problems = []
    if not (folder / "tokenizer.json").is_file():
        problems.append(f"{folder} lacks tokenizer.json")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return [*problems, f"{index} is damaged: {error!r}"]
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        problems += [f"{folder} lacks {shard}" for shard in missing]
    return problems
