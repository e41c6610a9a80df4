"""What the engine knows of one request while it is being answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from serving.detokenizer import Detokenizer
from serving.errors import ServingError
from serving.scheduler import Job
from serving.types import Output


@dataclass(eq=False)
class Answer:
    """A request and what has come of it."""

    job: Job
    detokenizer: Detokenizer
    streams: bool = False
    """Whether text is wanted at every step."""
    deadline: float = float("inf")
    """By the monotonic clock."""
    is_cancelled: Callable[[], bool] = lambda: False
    on_text: Callable[[str], None] = lambda text: None
    on_end: Callable[[Output | ServingError], None] = lambda end: None
    """Called once, with the result or with what went wrong."""
    ids: list[int] = field(default_factory=list)
    first_token_at: float | None = None
    """By the monotonic clock."""
    ended: bool = False
