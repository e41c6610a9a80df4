"""One thing that was looked at, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]
"""Fine; worth knowing before hours are spent; training would fail."""


@dataclass(frozen=True)
class Finding:
    """What was found, in words."""

    level: Level
    subject: str
    """What was looked at: 'packages', 'memory'."""
    text: str
    fix: str = ""
    """What to do about it; empty if there is nothing to do."""


def readable_bytes(num_bytes: float) -> str:
    """As people read it, in units of 10^6 or 10^9 bytes."""
    if num_bytes < 1e8:
        return f"{num_bytes / 1e6:.0f} MB"
    return f"{num_bytes / 1e9:.1f} GB"
