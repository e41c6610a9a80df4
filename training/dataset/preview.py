"""Shows what of an example is learned and what is only read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenizers import Tokenizer

from adapters.prompts import PromptFormat
from training.dataset.rows import Row

Role = Literal["masked", "style", "learned", "rejected"]

_COLOURS = {"masked": "2", "style": "7", "learned": "32", "rejected": "31"}
"""Dim, reversed, green and red, as terminals number them."""


@dataclass(frozen=True)
class Segment:
    """A run of tokens that are treated alike."""

    role: Role
    text: str
    """Control tokens included."""
    num_tokens: int


class Preview:
    """Draws rows, with colours or with words in their place."""

    def __init__(self, folder: Path, tokens: dict[str, str], *, in_colour: bool) -> None:
        """Take the tokenizer of a folder and the token of each style."""
        self._prompt = PromptFormat.from_folder(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokens = tokens
        self._in_colour = in_colour

    def draw(self, row: Row) -> Iterator[str]:
        """Lines that show one row; PromptError if the chat template refuses it."""
        segments = self.segments(row)
        label = "" if row.label is None else f" · labelled {str(row.label).lower()}"
        counts = " · ".join(
            f"{sum(s.num_tokens for s in segments if s.role == role)} tokens {role}"
            for role in dict.fromkeys(segment.role for segment in segments)
        )
        yield f"line {row.line} · {row.style}{label} · {counts}"
        if self._in_colour:
            yield "".join(
                f"\x1b[{_COLOURS[segment.role]}m{_harmless(segment.text)}\x1b[0m"
                for segment in segments
            )
        else:
            yield from (f"  {s.role:<9} {_on_one_line(s.text)}" for s in segments)

    def segments(self, row: Row) -> list[Segment]:
        """The parts of an example in their order; a rejected answer comes last."""
        token = self._tokens[row.style]
        example = self._prompt.encode_example(row.messages, row.completion, token)
        prompt = example.input_ids[: example.prompt_length]
        place = prompt.index(self._prompt.token_id(token))
        ends: list[tuple[Role, int]] = [
            ("masked", place),
            ("style", place + 1),
            ("masked", example.prompt_length),
            ("learned", len(example.input_ids)),
        ]
        segments = list(self._cut(example.input_ids, ends))
        if row.rejected is not None:
            worse = self._prompt.encode_example(row.messages, row.rejected, token)
            whole: list[tuple[Role, int]] = [
                ("masked", worse.prompt_length),
                ("rejected", len(worse.input_ids)),
            ]
            segments.append(list(self._cut(worse.input_ids, whole))[-1])
        return segments

    def _cut(self, ids: Sequence[int], ends: Sequence[tuple[Role, int]]) -> Iterator[Segment]:
        # Decoded from the start each time: alone, a part may lose the space it begins with.
        start, before = 0, ""
        for role, end in ends:
            text = self._tokenizer.decode(list(ids[:end]), skip_special_tokens=False)
            if end > start:
                yield Segment(role, text.removeprefix(before), end - start)
            start, before = end, text


def _harmless(text: str) -> str:
    """Without anything that a terminal would obey."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def _on_one_line(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
