"""Turns the tokens of one answer into text as they come."""

from __future__ import annotations

from adapters.prompts import PromptFormat

_INCOMPLETE = "\ufffd"


class Detokenizer:
    """The text of one answer: whole characters only, and nothing of a stop string.

    What may still turn out to be the beginning of a stop string, or the white space at the end of
    the answer, is held back until it is clear. All pieces together are `text`.
    """

    def __init__(self, prompt: PromptFormat, stop: tuple[str, ...] = ()) -> None:
        """Start with an empty answer that ends in front of any text of `stop`."""
        self._prompt = prompt
        self._stop = stop
        self._ids: list[int] = []
        # Decoding begins a little before the new ids: how a token reads depends on the one before.
        self._context = 0
        self._decoded = 0
        self._text = ""
        self._num_given = 0
        self.stopped = False
        """Whether a stop string was met."""

    @property
    def text(self) -> str:
        """The answer so far without white space around it."""
        return self._text.strip()

    def add(self, token_id: int, *, may_stop: bool = True) -> str:
        """Take a token; returns the text that is certain now and was not returned before."""
        self._ids.append(token_id)
        before = self._prompt.decode(self._ids[self._context : self._decoded])
        now = self._prompt.decode(self._ids[self._context :])
        if now.endswith(_INCOMPLETE):
            return ""  # the rest of a character is still to come
        self._context, self._decoded = self._decoded, len(self._ids)
        self._append(now[len(before) :], may_stop=may_stop)
        return self._give(self._text[: len(self._text) - self._num_uncertain()])

    def finish(self, *, may_stop: bool = True) -> str:
        """End the answer; returns the text held back until now."""
        if not self.stopped:
            before = self._prompt.decode(self._ids[self._context : self._decoded])
            rest = self._prompt.decode(self._ids[self._context :])[len(before) :]
            self._append(rest, may_stop=may_stop)
        return self._give(self._text)

    def _append(self, piece: str, *, may_stop: bool) -> None:
        known = len(self._text)
        self._text += piece
        if not may_stop:
            return
        # only a stop string that ends in the new piece: an earlier one was allowed to pass
        places = [self._text.find(stop, max(0, known - len(stop) + 1)) for stop in self._stop]
        if found := [place for place in places if place >= 0]:
            self._text = self._text[: min(found)]
            self.stopped = True

    def _num_uncertain(self) -> int:
        """Characters at the end that a stop string could begin with."""
        if self.stopped:
            return 0
        return max(
            (
                length
                for stop in self._stop
                for length in range(1, len(stop))
                if self._text.endswith(stop[:length])
            ),
            default=0,
        )

    def _give(self, certain: str) -> str:
        """What of the certain text is new; white space around the answer is no part of it."""
        certain = certain.rstrip()
        skipped = len(self._text) - len(self._text.lstrip())
        piece = certain[max(self._num_given, skipped) :]
        self._num_given = max(self._num_given, len(certain))
        return piece
