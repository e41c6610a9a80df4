"""What can be known to be wrong before a model is loaded; imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from adapters.base import read_base_facts
from adapters.manifest import AdapterManifest, check_adapter
from serving.config import PROJECT_FOLDER, EngineConfig

# Only what loading needs: weights in safetensors, configuration and tokenizer.
_BASE_FILES = ["*.json", "*.safetensors", "tokenizer.model", "*.jinja"]


def resolve_base_folder(name: str, *, download: bool = True) -> Path:
    """The local folder of a base model: a path, or a hub id (downloaded if need be and wanted).

    Raises:
        FileNotFoundError: it is neither, or it is not here and the hub cannot be reached.
    """
    for folder in (Path(name), PROJECT_FOLDER / name):
        if folder.is_dir():
            return folder
    try:
        return Path(
            snapshot_download(name, allow_patterns=_BASE_FILES, local_files_only=not download)
        )
    except (OSError, ValueError, HFValidationError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(
            f"base model {name!r} is no folder and could not be had from the hub: {error}"
        ) from error


def check_start(config: EngineConfig) -> AdapterManifest:
    """Everything that can be known to be wrong without loading a model.

    Raises:
        AdapterMismatchError: the adapter is damaged or does not fit the base model.
        FileNotFoundError: there is no such base model.
        ValueError: a presets file that does not fit the adapter.
    """
    manifest = check_adapter(config.adapter)
    name = config.base_model or manifest.base.name
    facts = read_base_facts(resolve_base_folder(name), name)
    manifest = check_adapter(config.adapter, facts)
    if config.presets is None:
        return manifest
    return manifest.with_presets(_read_presets(config.presets))


def _read_presets(path: Path) -> dict[str, Any]:
    try:
        presets = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"presets file {path} is no JSON: {error}") from error
    if not isinstance(presets, dict):
        raise ValueError(f'presets file {path} must look like {{"terse": {{"top_p": 1}}}}')
    return presets
