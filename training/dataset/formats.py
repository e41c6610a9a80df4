"""Which of the known formats a file is in, told from the keys of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.dataset import instruction, message_tree, messages, preference, prompt_completion
from training.dataset.conversation import Conversation
from training.dataset.problems import Problems
from training.dataset.sources import Record

ReadRow = Callable[[Mapping[str, Any], int, Problems], Conversation | None]


@dataclass(frozen=True)
class Format:
    """How rows are written."""

    read: ReadRow
    keys: tuple[str, ...]
    """All that are understood."""


FORMATS = {
    "prompt-completion": Format(prompt_completion.read_prompt_completion, prompt_completion.KEYS),
    "messages": Format(messages.read_messages_row, ("messages", *messages.KEYS)),
    "conversations": Format(messages.read_conversations_row, ("conversations", *messages.KEYS)),
    "alpaca": Format(instruction.read_instruction, instruction.KEYS),
    "instruction-style": Format(instruction.read_instruction, instruction.KEYS),
    "preference": Format(preference.read_preference, preference.KEYS),
    "message-tree": Format(messages.read_messages_row, message_tree.KEYS),
}
"""By the names that the setting `data_format` has for them."""


def detect_format(records: Sequence[Record]) -> str | None:
    """The format of most rows; None if no row has the keys of any."""
    votes = Counter(name for record in records if (name := format_of(record.row)) is not None)
    return votes.most_common(1)[0][0] if votes else None


def format_of(row: Any) -> str | None:
    """The format that the keys of one row belong to."""
    keys: Collection[str] = set(row) if isinstance(row, Mapping) else ()
    if message_tree.is_message(row):
        return "message-tree"
    if "chosen" in keys and "rejected" in keys:
        return "preference"
    for name in ("conversations", "messages"):
        if name in keys:
            return name
    if "instruction" in keys and "output" in keys:
        return "instruction-style" if "style" in keys or "system" in keys else "alpaca"
    return "prompt-completion" if "prompt" in keys or "completion" in keys else None


def known_formats() -> str:
    """The formats with their keys, for people."""
    return "; ".join(f"{name} ({', '.join(form.keys)})" for name, form in FORMATS.items())
