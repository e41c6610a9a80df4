"""Ollama's templates, in Go's language, derived from a model's chat template, which is Jinja."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jinja2 import TemplateError

Render = Callable[[list[dict[str, str]]], str]
"""Messages as text, up to where the answer begins."""


@dataclass(frozen=True)
class Turns:
    """The text that a chat template writes around the messages of a conversation."""

    opening: str
    """In front of the first user message."""
    closing: str
    """After every user message, up to where an answer is to be written."""
    answering: str
    """In front of an answer that is there already, behind `closing`; mostly nothing."""
    following: str
    """Between an answer and the next user message."""
    system: tuple[str, str] | None
    """Around a system message, in place of `opening`; None if the template has no place for it."""

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """What these turns make of a conversation."""
        text, start = "", self.opening
        for message in messages:
            if message["role"] == "system":
                assert self.system is not None
                before, after = self.system
                text, start = before + message["content"] + after, ""
            elif message["role"] == "user":
                text += start + message["content"] + self.closing
            else:
                text, start = text + self.answering + message["content"], self.following
        return text


def find_turns(render: Render) -> Turns:
    """Take a chat template apart by rendering conversations with it.

    Raises:
        ValueError: it writes more than some text around every message.
    """
    opening, closing = _around(render, ("user",))
    _, middle, following, _ = _around(render, ("user", "assistant", "user"))
    system = None
    try:
        before, after, _ = _around(render, ("system", "user"))
        system = (before, after)
    except (TemplateError, ValueError):
        pass  # the template knows no system messages
    turns = Turns(opening, closing, middle.removeprefix(closing), following, system)
    for start in [()] if system is None else [(), ("system",)]:
        for num_answers in range(3):
            messages = _marked((*start, *("user", "assistant") * num_answers, "user"))
            if turns.render(messages) != render(messages):
                raise ValueError(
                    "the chat template does more than to write text around every message; "
                    "no template for Ollama can be derived from it"
                )
    return turns


def ollama_template(turns: Turns, style_token: str) -> str:
    """A Go template that writes prompts as these turns do, in one style."""
    opening = _go(turns.opening)
    if turns.system is None:
        system = opening  # the message itself has no place
    else:
        before, after = turns.system
        system = f"{_go(before)}{{{{ .Content }}}}{_go(after)}"
    behind_system = '(eq $i 1) (eq (index $.Messages 0).Role "system")'
    return (
        f'{{{{ range $i, $_ := .Messages }}}}{{{{ if eq .Role "system" }}}}{system}'
        f'{{{{ else if eq .Role "user" }}}}{{{{ if eq $i 0 }}}}{opening}'
        f"{{{{ else if and {behind_system} }}}}{{{{ else }}}}{_go(turns.following)}{{{{ end }}}}"
        f"{{{{ if eq (len (slice $.Messages $i)) 1 }}}}{_go(style_token)}\n{{{{ end }}}}"
        f"{{{{ .Content }}}}{_go(turns.closing)}"
        f"{{{{ else }}}}{_go(turns.answering)}{{{{ .Content }}}}{{{{ end }}}}{{{{ end }}}}"
    )


def _marked(roles: Sequence[str]) -> list[dict[str, str]]:
    """Messages of these roles; private-use characters stand for their words."""
    return [{"role": role, "content": chr(0xE000 + number)} for number, role in enumerate(roles)]


def _around(render: Render, roles: Sequence[str]) -> list[str]:
    """The text before, between and after the messages; raises ValueError if it is not so."""
    text, parts = render(_marked(roles)), []
    for number in range(len(roles)):
        part, mark, text = text.partition(chr(0xE000 + number))
        if not mark:
            raise ValueError(f"the chat template leaves out message {number + 1} of {len(roles)}")
        parts.append(part)
    return [*parts, text]


def _go(text: str) -> str:
    """Text as a Go template writes it, inside the three quotes of a Modelfile."""
    if "{{" in text or '"""' in text:
        return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"
    return text
