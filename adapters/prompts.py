"""The prompt, as token ids, written in one place for trainer and server.

The scaffold (control tokens, role markers, the style token) comes from the model's chat template;
the words of users are encoded apart from it by a tokenizer that knows no control token, so that
nobody can type one. A training example is the serving prompt plus the answer, by construction.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

FORMAT_VERSION = 1
"""Raised whenever the same template and words would give other ids than before."""

DEFAULT_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ raise_exception('This chat template knows user and assistant only') }}"
    "{% endif %}{% endfor %}"
)
"""Mistral's form, used for a base model that brings no chat template."""

# Private-use characters mark where the words of a message go in the rendered template.
_MARKER = re.compile("\ue000([0-9]+)\ue001")


class PromptError(ValueError):
    """The messages cannot be put into the model's chat template."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Example:
    """A training example: the prompt's ids followed by the answer's."""

    input_ids: list[int]
    prompt_length: int
    """Ids before the answer; these are not learned."""

    @property
    def completion_mask(self) -> list[int]:
        """1 for every id to learn, 0 for the prompt; same length as `input_ids`."""
        return [0] * self.prompt_length + [1] * (len(self.input_ids) - self.prompt_length)


class PromptFormat:
    """Turns messages and a style token into ids. Safe to share between threads."""

    def __init__(
        self, tokenizer_json: str, chat_template: str, *, bos_token: str | None, eos_token: str
    ) -> None:
        """Prepare for one tokenizer (the text of its `tokenizer.json`) and one chat template."""
        self.chat_template = chat_template
        self.eos_token = eos_token
        self._bos_token = bos_token
        # Two fixed tokenizers instead of one with a flag: the flag is state shared by threads.
        self._scaffold_tokenizer = _tokenizer(tokenizer_json)
        self._words_tokenizer = _tokenizer(_without_added_tokens(tokenizer_json))
        for tokenizer in (self._scaffold_tokenizer, self._words_tokenizer):
            tokenizer.no_truncation()
            tokenizer.no_padding()
        self.control_ids = frozenset(self._scaffold_tokenizer.get_added_tokens_decoder())
        self.num_tokens = self._scaffold_tokenizer.get_vocab_size(with_added_tokens=True)
        self.eos_id = self.token_id(eos_token)
        self.bos_id = None if bos_token is None else self.token_id(bos_token)
        self._template = _compile(chat_template)

    @classmethod
    def from_folder(cls, folder: Path) -> PromptFormat:
        """Read `tokenizer.json`, `tokenizer_config.json` and the chat template of a folder.

        Raises:
            FileNotFoundError: the folder has no `tokenizer.json` or `tokenizer_config.json`.
            PromptError: the tokenizer names no end-of-text token, or the template is broken.
        """
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise PromptError(f"{folder / 'tokenizer_config.json'} is no JSON object")
        eos_token = _token_text(config.get("eos_token"))
        if eos_token is None:
            raise PromptError(f"{folder / 'tokenizer_config.json'} names no eos_token")
        return cls(
            (folder / "tokenizer.json").read_text(encoding="utf-8"),
            _read_chat_template(folder, config),
            bos_token=_token_text(config.get("bos_token")),
            eos_token=eos_token,
        )

    @property
    def template_sha256(self) -> str:
        """Identifies the chat template in a manifest."""
        return hashlib.sha256(self.chat_template.encode()).hexdigest()

    def token_id(self, token: str) -> int:
        """Id of a token of the vocabulary; raises PromptError if there is none."""
        token_id = self._scaffold_tokenizer.token_to_id(token)
        if token_id is None:
            raise PromptError(f"the tokenizer has no token {token!r}")
        return int(token_id)

    def token(self, token_id: int) -> str | None:
        """The entry of the vocabulary as it is written there; None if the id has none."""
        entry: str | None = self._scaffold_tokenizer.id_to_token(token_id)
        return entry

    def encode_prompt(self, messages: Sequence[Message], style_token: str | None) -> list[int]:
        """Ids of a conversation that ends with the user, up to where the answer begins.

        The style token stands in front of the last user message. Exactly one BOS where the
        tokenizer has one.

        Raises:
            PromptError: the last message is not the user's, the template refuses the messages, or
                words come out as a control token.
        """
        if not messages or messages[-1].role != "user":
            raise PromptError("the last message must be the user's")
        return self._encode(self._render(messages, style_token), messages)

    def find_words(self, messages: Sequence[Message], style_token: str | None) -> range:
        """Where among the ids of `encode_prompt` the words of the last message stand."""
        before, _, _ = self._render(messages, style_token).partition(_mark(len(messages) - 1))
        start = len(self._encode(before, messages))
        return range(start, start + len(self.encode_words(messages[-1].content)))

    def encode_example(
        self, messages: Sequence[Message], answer: str, style_token: str | None
    ) -> Example:
        """A training example: `encode_prompt` of the messages, then the answer up to its EOS."""
        prompt = self.encode_prompt(messages, style_token)
        opening, closing = self._around_answer(messages, style_token)
        if opening[:1] == " " and self._words_start_with_space:
            opening = opening[1:]  # the words tokenizer puts that space there by itself
        ids = self.encode_words(opening + answer)
        tail = self._encode_scaffold(closing)
        tail = tail[: tail.index(self.eos_id) + 1] if self.eos_id in tail else [self.eos_id]
        return Example(prompt + ids + tail, len(prompt))

    def encode_words(self, text: str) -> list[int]:
        """Ids of plain words; raises PromptError if one of them is a control token."""
        ids: list[int] = self._words_tokenizer.encode(text, add_special_tokens=False).ids
        if not self.control_ids.isdisjoint(ids):
            raise PromptError("the text contains a control token of the model")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, control tokens left out."""
        words = [token_id for token_id in ids if token_id not in self.control_ids]
        text: str = self._scaffold_tokenizer.decode(words, skip_special_tokens=True)
        return text

    def _around_answer(
        self, messages: Sequence[Message], style_token: str | None
    ) -> tuple[str, str]:
        """What the template writes between the prompt and the answer, and after the answer."""
        prompt = self._render(messages, style_token)
        whole = self._render([*messages, Message("assistant", "")], style_token)
        before, _, closing = whole.rpartition(_mark(len(messages)))
        if not before.startswith(prompt):
            raise PromptError(
                "the chat template writes a conversation with an answer differently from the "
                "prompt before it, so training and serving could not see the same prompt"
            )
        return before[len(prompt) :], closing

    def _render(self, messages: Sequence[Message], style_token: str | None) -> str:
        last_user = max(i for i, message in enumerate(messages) if message.role == "user")
        turns = []
        for index, message in enumerate(messages):
            lead = f"{style_token}\n" if index == last_user and style_token is not None else ""
            turns.append({"role": message.role, "content": lead + _mark(index)})
        try:
            text: str = self._template.render(
                messages=turns,
                add_generation_prompt=messages[-1].role == "user",
                bos_token=self._bos_token or "",
                eos_token=self.eos_token,
            )
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise PromptError(f"the chat template refuses these messages: {error}") from error
        if _mark(last_user) not in text:
            raise PromptError("the chat template leaves out the last user message")
        return text

    def _encode(self, rendered: str, messages: Sequence[Message]) -> list[int]:
        ids: list[int] = []
        for index, part in enumerate(_MARKER.split(rendered)):
            # split() alternates between scaffold and the number of a message
            if index % 2 == 0:
                ids += self._encode_scaffold(part)
            else:
                ids += self.encode_words(messages[int(part)].content)
        if self.bos_id is not None and self._adds_bos and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return ids

    def _encode_scaffold(self, text: str) -> list[int]:
        ids: list[int] = self._scaffold_tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    @cached_property
    def _adds_bos(self) -> bool:
        return self.bos_id in self._scaffold_tokenizer.encode("", add_special_tokens=True).ids

    @cached_property
    def _words_start_with_space(self) -> bool:
        first = self._words_tokenizer.encode("a", add_special_tokens=False).tokens[0]
        return bool(first.startswith("▁"))


def _tokenizer(tokenizer_json: str) -> Tokenizer:
    try:
        return Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the library raises bare exceptions
        raise PromptError(f"tokenizer.json is malformed: {error}") from error


def _mark(index: int) -> str:
    return f"\ue000{index}\ue001"


def _compile(chat_template: str) -> Any:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals["raise_exception"] = _raise_exception
    try:
        return environment.from_string(chat_template)
    except TemplateError as error:
        raise PromptError(f"the chat template is broken: {error}") from error


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _without_added_tokens(tokenizer_json: str) -> str:
    return json.dumps({**json.loads(tokenizer_json), "added_tokens": [], "post_processor": None})


def _token_text(token: Any) -> str | None:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _read_chat_template(folder: Path, config: dict[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    return template if isinstance(template, str) else DEFAULT_CHAT_TEMPLATE
