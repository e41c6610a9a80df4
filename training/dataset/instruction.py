"""Alpaca's format: an instruction, an input if there is one, and an output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.prompts import Message
from training.dataset.conversation import Conversation
from training.dataset.problems import Problems
from training.dataset.words import read_text

KEYS = ("system", "instruction", "input", "output", "style")


def read_instruction(row: Mapping[str, Any], line: int, problems: Problems) -> Conversation | None:
    """A row whose input, where there is one, stands below the instruction.

    An empty system message or input counts as none.
    """
    texts = {}
    for name in ("system", "instruction", "input", "output"):
        if name in ("instruction", "output") or row.get(name) not in (None, ""):
            texts[name] = read_text(row.get(name), f"{name!r}", line, problems)
    if None in texts.values():
        return None
    question = "\n\n".join(str(texts[name]) for name in ("instruction", "input") if name in texts)
    messages = [Message("user", question), Message("assistant", str(texts["output"]))]
    if "system" in texts:
        messages.insert(0, Message("system", str(texts["system"])))
    return Conversation(tuple(messages), row.get("style"))
