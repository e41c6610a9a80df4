"""Trees of messages, as OpenAssistant publishes them: each message names the one it answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from training.dataset.sources import Record

KEYS = ("message_id", "parent_id", "text", "role", "rank")


def is_message(row: Any) -> bool:
    """Whether a row is a message of such a tree."""
    return isinstance(row, Mapping) and {"message_id", "parent_id", "text", "role"} <= set(row)


def join_tree(records: Sequence[Record]) -> list[Record]:
    """Every tree as one conversation in the format `messages`, at the line of its first message.

    Of several replies the best ranked one is taken (0 is the best), deleted ones never; then the
    thread goes on as long as somebody replied. Rows that are no message stay as they are.
    """
    replies: dict[str | None, list[Record]] = defaultdict(list)
    others = []
    for record in records:
        if not is_message(record.row):
            others.append(record)
        elif not record.row.get("deleted"):
            replies[record.row["parent_id"]].append(record)
    conversations = []
    for root in replies[None]:
        thread = [_as_message(message) for message in _thread(root, replies)]
        conversations.append(Record(root.line, {"messages": thread}))
    return sorted([*others, *conversations], key=lambda record: record.line)


def _thread(root: Record, replies: Mapping[str | None, list[Record]]) -> Iterator[Record]:
    seen = set()
    message: Record | None = root
    while message is not None and message.row["message_id"] not in seen:
        yield message
        seen.add(message.row["message_id"])
        answers = replies.get(message.row["message_id"], [])
        message = min(answers, key=_rank, default=None)


def _rank(message: Record) -> float:
    rank = message.row.get("rank")
    return float("inf") if rank is None else float(rank)


def _as_message(message: Record) -> dict[str, Any]:
    return {"role": message.row["role"], "content": message.row["text"]}
