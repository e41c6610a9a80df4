"""Whether a value of a row is text that can be learned."""

from __future__ import annotations

import re
from typing import Any

from training.dataset.problems import Problems

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f]")
# UTF-8 that was read as Latin-1 or Windows-1252: 'Ã¤' for 'ä', 'â€™' for an apostrophe.
_MISREAD = re.compile("Ã[\x80-¿]|â€|\ufffd")
_TEMPLATE = re.compile(r"\[/?INST\]|<\|[a-z_]+\|>|</?s>|<(?:start|end)_of_turn>|<STYLE_[A-Z]+>")


def read_text(value: Any, name: str, line: int, problems: Problems) -> str | None:
    """The value if it is text that is not empty; else None, and the reason among the problems.

    Characters that hint at damage are noticed, and left as they are.
    """
    if not isinstance(value, str) or not value.strip():
        kinds = {type(None): "null content", str: "empty content"}
        kind = kinds.get(type(value), "content that is no text")
        problems.refuse(line, kind, f"{name} must be text that is not empty")
        return None
    if not _is_utf8(value):
        text = f"{name} holds half of a surrogate pair, which is no text"
        problems.refuse(line, "half a surrogate pair", text)
        return None
    _notice_oddities(value, name, line, problems)
    return value


def _notice_oddities(text: str, name: str, line: int, problems: Problems) -> None:
    if found := _CONTROL.search(text):
        told = f"{name} holds the control character {found[0]!r}"
        problems.notice(line, "control character", told)
    if found := _MISREAD.search(text):
        told = f"{name} holds {found[0]!r}; it was probably decoded wrongly once"
        problems.notice(line, "wrong encoding", told)
    if found := _TEMPLATE.search(text):
        told = f"{name} holds {found[0]!r}, which is learned letter by letter, not as a token"
        problems.notice(line, "template in the words", told)


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
