"""The format of the bundled data: a prompt, a completion and, if wanted, a style or a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.prompts import Message
from training.dataset.conversation import Conversation, read_label, read_messages
from training.dataset.problems import Problems
from training.dataset.words import read_text

KEYS = ("prompt", "completion", "style", "label")


def read_prompt_completion(
    row: Mapping[str, Any], line: int, problems: Problems
) -> Conversation | None:
    """A row whose prompt and completion are texts, or lists of messages as TRL has them.

    This being our own format, a key that it does not have is a mistake.
    """
    for name in sorted(set(row) - set(KEYS)):
        text = f"unknown key {name!r}; known: {', '.join(KEYS)}"
        problems.refuse(line, "unknown key", text)
    label = read_label(row.get("label"), line, problems)
    prompt = read_prompt(row.get("prompt"), "'prompt'", line, problems)
    answer = read_answer(row.get("completion"), "'completion'", line, problems)
    if prompt is None or answer is None:
        return None
    return Conversation((*prompt, Message("assistant", answer)), row.get("style"), label=label)


def read_prompt(value: Any, name: str, line: int, problems: Problems) -> list[Message] | None:
    """The user's words, or a list of messages that ends with them."""
    if not _is_message_list(value):
        text = read_text(value, name, line, problems)
        return None if text is None else [Message("user", text)]
    messages = read_messages(value, name, line, problems)
    if messages is not None and messages[-1].role != "user":
        text = f"{name} must end with the user's words"
        problems.refuse(line, "no question", text)
        return None
    return messages


def read_answer(value: Any, name: str, line: int, problems: Problems) -> str | None:
    """The answer's words, or a list of one message with them."""
    if _is_message_list(value) and len(value) == 1:
        value = value[0].get("content", value[0].get("value"))
    return read_text(value, name, line, problems)


def _is_message_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
