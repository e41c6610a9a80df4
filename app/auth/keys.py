"""API keys: a file with a name and a hash for each, never the keys themselves.

# who            SHA-256 of the key, in hexadecimal
chat-page        9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0bbcd15d6c15b0f00a08c5
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Names are written into logs."""
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_PREFIX = "laconic-"
"""Tells people, and programs that look for leaked secrets, what they have found."""


class ApiKeys:
    """The keys that are accepted, by name."""

    def __init__(self, hashes: dict[str, str]) -> None:
        """Accept keys with these hashes, which are given by name."""
        self._hashes = hashes

    def find_name(self, key: str) -> str | None:
        """The name of a key, or None if it is not accepted; takes as long either way."""
        digest, found = _digest(key), None
        for name, known in self._hashes.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def read_keys(file: Path) -> ApiKeys:
    """The keys of a file.

    Raises:
        ValueError: the file cannot be used; the message lists every problem.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the file of API keys cannot be read: {error}") from error
    hashes: dict[str, str] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        found = list(_problems(words, hashes))
        problems += [f"line {number}: {problem}" for problem in found]
        if not found:
            hashes[words[0]] = words[1].lower()
    if not hashes and not problems:
        problems.append("it has no keys, so nobody could use the server")
    if problems:
        # Never the line itself: a careless hand may have put the key there.
        raise ValueError(f"the file of API keys {file} is wrong: {'; '.join(problems)}")
    return ApiKeys(hashes)


def make_key(name: str) -> tuple[str, str]:
    """A new key, and the line that makes a server accept it.

    Raises:
        ValueError: this cannot be a name.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(_BAD_NAME)
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, f"{name} {_digest(key)}"


_BAD_NAME = "a name has 1 to 64 letters, digits, dots, dashes and underscores"


def _problems(words: list[str], hashes: dict[str, str]) -> Iterator[str]:
    if len(words) != 2:
        yield f"write a name and a hash, not {len(words)} word(s)"
        return
    name, text = words
    if not _NAME.fullmatch(name):
        yield _BAD_NAME
    elif name in hashes:
        yield f"the name {name} is there already"
    if not _HASH.fullmatch(text):
        yield "the hash must be 64 hexadecimal digits; `python -m app.auth NAME` makes one"
    elif text.lower() in hashes.values():
        yield "another name has the same key"


def _digest(key: str) -> str:
    # Keys are long and random, so a slow hash as for passwords would protect nothing.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
