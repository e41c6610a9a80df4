"""From a conversation to rows: one for each answer to learn, with all that was said before."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal

from adapters.styles import detect_style, style_in_words
from training.dataset.conversation import Conversation
from training.dataset.problems import Problems
from training.dataset.rows import Row, StyleOrigin

Turns = Literal["last", "all"]


def rows_of(
    conversation: Conversation,
    line: int,
    turns: Turns,
    style_names: Collection[str],
    problems: Problems,
) -> list[Row]:
    """The last answer, or every one of them, with all that was said before it.

    Of a pair, and of a conversation labelled as undesirable, only the last answer is meant. A
    style that the conversation names has been checked already.
    """
    last_only = turns == "last" or conversation.rejected is not None or conversation.label is False
    rows = []
    for place in list(_answers(conversation))[-1 if last_only else 0 :]:
        prompt = conversation.messages[:place]
        style = _style_of(conversation, prompt[-1].content, style_names, line, problems)
        if style is None:
            return []
        name, origin = style
        rows.append(
            Row(
                messages=prompt,
                completion=conversation.messages[place].content,
                style=name,
                rejected=conversation.rejected,
                label=conversation.label,
                line=line,
                style_origin=origin,
            )
        )
    return rows


def check_style(value: Any, line: int, style_names: Collection[str], problems: Problems) -> None:
    """Refuse a row that names a style which is not trained; None names none."""
    if value is not None and not (isinstance(value, str) and value in style_names):
        known = ", ".join(sorted(style_names))
        problems.refuse(line, "unknown style", f"unknown style {value!r}; known: {known}")


def _answers(conversation: Conversation) -> Iterator[int]:
    for place, message in enumerate(conversation.messages):
        if message.role == "assistant":
            yield place


def _style_of(
    conversation: Conversation,
    question: str,
    style_names: Collection[str],
    line: int,
    problems: Problems,
) -> tuple[str, StyleOrigin] | None:
    if conversation.style is not None:
        return conversation.style, "named"
    name = detect_style(question).name
    if name in style_names:
        return name, "default" if style_in_words(question) is None else "words"
    known = ", ".join(sorted(style_names))
    text = f"names no style, and its words ask for {name!r}; name one of: {known}"
    problems.refuse(line, "unknown style", text)
    return None
