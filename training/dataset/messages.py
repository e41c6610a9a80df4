"""Two formats of whole chats: `messages` as of OpenAI, `conversations` as of ShareGPT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.dataset.conversation import (
    Conversation,
    has_answer,
    read_label,
    read_messages,
)
from training.dataset.problems import Problems

KEYS = ("system", "style", "label")
"""Besides the list itself."""


def read_messages_row(row: Mapping[str, Any], line: int, problems: Problems) -> Conversation | None:
    """A row with the list `messages`."""
    return _read_chat(row, "messages", line, problems)


def read_conversations_row(
    row: Mapping[str, Any], line: int, problems: Problems
) -> Conversation | None:
    """A row with the list `conversations`."""
    return _read_chat(row, "conversations", line, problems)


def _read_chat(
    row: Mapping[str, Any], name: str, line: int, problems: Problems
) -> Conversation | None:
    value = row.get(name)
    if isinstance(value, list) and row.get("system"):
        value = [{"role": "system", "content": row["system"]}, *value]
    label = read_label(row.get("label"), line, problems)
    messages = read_messages(value, f"{name!r}", line, problems)
    if messages is None:
        return None
    if not has_answer(messages, f"{name!r}", line, problems):
        return None
    return Conversation(tuple(messages), row.get("style"), label=label)
