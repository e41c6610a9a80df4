"""Reads server-sent events as strictly as they have to be written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from werkzeug.test import TestResponse


@dataclass(frozen=True)
class Event:
    """One event: `message` where the stream names none."""

    name: str
    data: Any


def read_events(response: TestResponse) -> list[Event]:
    """The events of a stream without its comments; fails on anything that is not one of both."""
    assert (response.status_code, response.mimetype) == (200, "text/event-stream")
    return [parse(block) for block in read_blocks(response) if not block.startswith(":")]


def read_blocks(response: TestResponse) -> list[str]:
    """Events and comments as they were written."""
    text = response.get_data(as_text=True)
    assert text.endswith("\n\n")
    return text.removesuffix("\n\n").split("\n\n")


def parse(block: str) -> Event:
    """The event of a block: at most one line with its name, one with its data."""
    lines = block.split("\n")
    name = lines.pop(0).removeprefix("event: ") if lines[0].startswith("event: ") else "message"
    (line,) = lines
    assert line.startswith("data: ")
    return Event(name, json.loads(line.removeprefix("data: ")))
