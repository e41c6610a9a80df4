"""Lists of messages as data sets write them, under the roles that a chat template knows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from adapters.prompts import Message
from training.dataset.problems import Problems
from training.dataset.words import read_text

_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
_TOOL_ROLES = ("tool", "function", "function_call", "function_response", "observation", "ipython")
_TOOL_TEXT = re.compile(r"^(?:tool_call:|<tool_call>|<function=|\[TOOL_CALLS\])", re.MULTILINE)


@dataclass(frozen=True)
class Conversation:
    """What a row of any format says."""

    messages: tuple[Message, ...]
    """At least one of them is the assistant's."""
    style: str | None = None
    """As the row names it."""
    rejected: str | None = None
    label: bool | None = None


def read_messages(value: Any, name: str, line: int, problems: Problems) -> list[Message] | None:
    """Messages that begin with the user, behind a system message if there is one.

    Two messages of the user in a row become one. None for a list that cannot be used.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        problems.refuse(line, "no messages", f"{name} must be a list of messages")
        return None
    read = [
        _read_message(item, f"{name}[{index}]", line, problems) for index, item in enumerate(value)
    ]
    messages = [message for message in read if message is not None]
    if len(messages) < len(read) or not _order_is_good(messages, name, line, problems):
        return None
    return _join_neighbours(messages, name, line, problems)


def has_answer(messages: Sequence[Message], name: str, line: int, problems: Problems) -> bool:
    """Whether there is an answer to learn; words behind the last one are told of."""
    if all(message.role != "assistant" for message in messages):
        problems.refuse(line, "no answer", f"{name} holds no answer of the assistant to learn")
        return False
    if messages[-1].role == "user":
        text = f"{name} ends with words of the user that nobody answered; they are left out"
        problems.notice(line, "unanswered question", text)
    return True


def read_label(value: Any, line: int, problems: Problems) -> bool | None:
    """Whether the answer is a desirable one; None if nobody says."""
    if value is None or isinstance(value, bool):
        return value
    problems.refuse(line, "wrong label", f"'label' must be true or false, not {value!r}")
    return None


def _read_message(item: Any, name: str, line: int, problems: Problems) -> Message | None:
    if not isinstance(item, Mapping):
        problems.refuse(line, "no messages", f"{name} must have a role and content")
        return None
    given = item.get("role", item.get("from"))
    if given in _TOOL_ROLES:
        text = f"{name} is of the role {given!r}; results of tools cannot be learned"
        problems.refuse(line, "tool result", text)
        return None
    if item.get("tool_calls") or item.get("function_call"):
        text = f"{name} calls a tool, which cannot be learned; write the call as text, or leave it"
        problems.refuse(line, "tool call", text)
        return None
    role = _ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        text = f"{name} has the unknown role {given!r}; known: {', '.join(_ROLES)}"
        problems.refuse(line, "unknown role", text)
        return None
    content = read_text(item.get("content", item.get("value")), name, line, problems)
    if content is None:
        return None
    if role == "assistant" and _TOOL_TEXT.search(content):
        text = f"{name} writes a tool call as text; it is learned like any other words"
        problems.notice(line, "tool call as text", text)
    return Message(role, content)


def _order_is_good(messages: list[Message], name: str, line: int, problems: Problems) -> bool:
    roles = [message.role for message in messages]
    told = len(problems.found)
    if "system" in roles[1:]:
        text = f"{name}[{roles.index('system', 1)}] is a system message that does not stand first"
        problems.refuse(line, "late system message", text)
    spoken = [role for role in roles if role != "system"]
    if not spoken or spoken[0] == "assistant":
        text = f"{name} must begin with the user's words; put them first, or leave the greeting out"
        problems.refuse(line, "assistant first", text)
    for index in range(1, len(roles)):
        if roles[index - 1] == roles[index] == "assistant":
            text = f"{name}[{index}] follows another answer; make one of the two"
            problems.refuse(line, "two answers in a row", text)
    return len(problems.found) == told


def _join_neighbours(
    messages: list[Message], name: str, line: int, problems: Problems
) -> list[Message]:
    joined: list[Message] = []
    for index, message in enumerate(messages):
        if joined and joined[-1].role == message.role:  # only the user's, others were refused
            text = f"{name}[{index}] follows other words of the user; an empty line joins them"
            problems.notice(line, "two users in a row", text)
            joined[-1] = Message("user", f"{joined[-1].content}\n\n{message.content}")
        else:
            joined.append(message)
    return joined
