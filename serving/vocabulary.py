"""How single tokens read, apart from any text."""

from __future__ import annotations

import re

from adapters.prompts import PromptFormat
from serving.logprobs import Score
from serving.types import TokenLogprob

_INCOMPLETE = "\ufffd"
_BYTE = re.compile("<0x([0-9A-F]{2})>")
"""How vocabularies with a token for every byte write them."""


class Vocabulary:
    """Texts and bytes of the tokens of one tokenizer; each is looked up once."""

    def __init__(self, prompt: PromptFormat) -> None:
        """Start with nothing looked up."""
        self.prompt = prompt
        # A decoder may drop the space that a text begins with, so no token is decoded alone.
        self._before = prompt.encode_words("a")
        self._known: dict[int, tuple[str, bytes]] = {}

    def describe(self, score: Score) -> TokenLogprob:
        """A score in words."""
        token, *top = (
            TokenLogprob(token_id, *self.read(token_id), logprob)
            for token_id, logprob in zip(score.ids, score.logprobs, strict=True)
        )
        return TokenLogprob(token.token_id, token.text, token.raw, token.logprob, tuple(top))

    def read(self, token_id: int) -> tuple[str, bytes]:
        """Text and bytes of a token.

        The text of a part of a character is `bytes:` and the bytes as in a Python literal; that of
        a control token, or of an id that the tokenizer does not have, is its name.
        """
        if token_id not in self._known:
            self._known[token_id] = self._look_up(token_id)
        return self._known[token_id]

    def _look_up(self, token_id: int) -> tuple[str, bytes]:
        entry = self.prompt.token(token_id)
        if entry is None or token_id in self.prompt.control_ids:
            name = f"<{token_id}>" if entry is None else entry
            return name, name.encode()
        before = self.prompt.decode(self._before)
        text = self.prompt.decode([*self._before, token_id])[len(before) :]
        if _INCOMPLETE not in text:
            return text, text.encode()
        raw = _bytes_of(entry)
        try:
            return raw.decode(), raw
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw), raw


def _bytes_of(entry: str) -> bytes:
    """The bytes that an entry of a vocabulary stands for; its own if it is written in no code."""
    if found := _BYTE.fullmatch(entry):
        return bytes.fromhex(found[1])
    if all(character in _BYTE_OF for character in entry):
        return bytes(_BYTE_OF[character] for character in entry)
    return entry.encode()


def _byte_level_code() -> dict[str, int]:
    """The characters by which byte-level vocabularies write bytes.

    A byte that is no visible character of Latin-1 is written as one from 256 on, in order. Source:
    GPT-2's encoder.
    """
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    shown = {chr(byte): byte for byte in visible}
    return shown | {chr(256 + place): byte for place, byte in enumerate(hidden)}


_BYTE_OF = _byte_level_code()
