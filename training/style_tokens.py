"""Gives each style token an id: a reserved row of the base's vocabulary, or a new one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from adapters.prompts import DEFAULT_CHAT_TEMPLATE
from adapters.styles import Style

# Rows that model families keep unused: Mistral v0.3, Llama 3, Gemma.
_RESERVED = re.compile(r"\[control_\d+\]|<\|reserved_special_token_\d+\|>|<unused\d+>")


def prepare_tokenizer(base_folder: Path, styles: Sequence[Style], folder: Path) -> dict[str, int]:
    """Write the base's tokenizer with the style tokens in it to `folder`; ids by style name.

    A reserved token is renamed where the base has one, so that no embedding grows. A base without
    a chat template gets Mistral's.
    """
    tokenizer = AutoTokenizer.from_pretrained(base_folder, trust_remote_code=False)
    if not tokenizer.chat_template:
        tokenizer.chat_template = DEFAULT_CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    if (base_folder / path.name).is_file():
        # the very file: transformers rebuilds some tokenizers with other ids for leading spaces
        shutil.copyfile(base_folder / path.name, path)
    data = json.loads(path.read_text(encoding="utf-8"))
    renamed, ids = {}, {}
    for style in styles:
        entry, old = _claim_token(data, style.token)
        ids[style.name] = entry["id"]
        renamed[old] = style.token
    vocabulary = data["model"]["vocab"]
    if isinstance(vocabulary, dict):
        data["model"]["vocab"] = {renamed.get(key, key): id_ for key, id_ in vocabulary.items()}
    else:  # Unigram: pairs of piece and score
        data["model"]["vocab"] = [[renamed.get(piece, piece), score] for piece, score in vocabulary]
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    _rename_in_config(folder / "tokenizer_config.json", renamed)
    return ids


def _claim_token(data: dict[str, Any], token: str) -> tuple[dict[str, Any], str]:
    """The added-token entry that now stands for `token`, and what it was called before."""
    added: list[dict[str, Any]] = data["added_tokens"]
    own = [entry for entry in added if entry["content"] == token]
    reserved = [entry for entry in added if _RESERVED.fullmatch(entry["content"])]
    for entry in (*own, *reserved):
        old, entry["content"] = entry["content"], token
        entry.update(special=True, normalized=False)
        return entry, old
    highest = max([entry["id"] for entry in added] + [len(data["model"]["vocab"]) - 1])
    entry = {
        "id": highest + 1,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    added.append(entry)
    return entry, token


def _rename_in_config(path: Path, renamed: dict[str, str]) -> None:
    """Keep what transformers reads about added tokens in step with tokenizer.json."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("additional_special_tokens", "extra_special_tokens"):
        if isinstance(config.get(key), list):
            config[key] = [renamed.get(token, token) for token in config[key]]
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
