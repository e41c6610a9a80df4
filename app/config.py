"""Settings of the web server, beside those of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_POSITIVE = ("max_body_bytes", "max_prompt_characters", "sse_ping_seconds")


@dataclass(frozen=True)
class WebConfig:
    """What can be set of the web server; every field as `LACONIC_<FIELD>` in the environment."""

    max_body_bytes: int = 256 * 1024
    """A larger body is refused with 413."""
    max_prompt_characters: int = 16_000
    """Of all messages of a request together."""
    sse_ping_seconds: float = 15.0
    """A stream without text sends a comment that often, so that proxies keep it open."""
    api_keys_file: Path | None = None
    """One key a line: a name, a space, the SHA-256 of the key in hexadecimal."""
    allow_public_without_keys: bool = False
    """Listen on an address that others reach although nobody needs a key."""
    requests_per_minute: int = 0
    """For each key, or each address where there are no keys; 0 for no limit."""
    concurrent_requests: int = 0
    """At a time, for each key or address; 0 for no limit."""
    cors_origins: tuple[str, ...] = ()
    """Web pages of other origins that may call the server from a browser."""
    trusted_hosts: tuple[str, ...] = ()
    """Names by which the server may be called; none for any."""
    log_format: Literal["console", "json"] = "console"
    log_prompts: bool = False
    """Write what users ask into the log; off, so that nobody's words leave the process."""
    drain_seconds: float = 30.0
    """Answers under way get that long when the server is told to stop."""
    runs_folder: Path = Path("runs")
    """Where the trainer writes the state of its runs."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense, all at once."""
        if problems := list(self._problems()):
            raise ValueError("; ".join(problems))

    def _problems(self) -> Iterator[str]:
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                yield f"{name} must be above 0, not {getattr(self, name)}"
        for name in ("requests_per_minute", "concurrent_requests", "drain_seconds"):
            if getattr(self, name) < 0:
                yield f"{name} must be 0 or more, not {getattr(self, name)}"
        if self.log_format not in ("console", "json"):
            yield f"log_format must be console or json, not {self.log_format!r}"
