"""What the engine knows of one request while it is being answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serving.detokenizer import Detokenizer
from serving.errors import ServingError
from serving.logprobs import Score
from serving.scheduler import Job
from serving.types import FinishReason, Output
from serving.vocabulary import Vocabulary


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
    scores: list[Score] = field(default_factory=list)
    """Of generated tokens, the end-of-text token included; only what was asked for."""
    prompt_scores: list[Score] = field(default_factory=list)
    """Of prompt tokens; only what was asked for."""
    is_broken: bool = False
    """Whether a score is no number."""

    def note(self, scores: Sequence[Score], *, of_prompt: bool) -> None:
        """Keep the scores of the next tokens, of the prompt or of the answer."""
        (self.prompt_scores if of_prompt else self.scores).extend(scores)
        self.is_broken |= any(math.isnan(score.logprobs[0]) for score in scores)

    def finish(self, reason: FinishReason, vocabulary: Vocabulary) -> Output:
        """Everything that has come of the request; hands out text that was held back."""
        params, detokenizer = self.job.params, self.detokenizer
        if not self.streams and not params.stop:
            text = vocabulary.prompt.decode(self.ids).strip()
        else:
            rest = detokenizer.finish(may_stop=len(self.ids) > params.min_new_tokens)
            if rest and self.streams:
                self.on_text(rest)
            text = detokenizer.text
        return Output(
            self.ids,
            text,
            # the text held back until the end may have had a stop string in it
            "stop" if detokenizer.stopped else reason,
            logprobs=tuple(map(vocabulary.describe, self.scores[: len(self.ids)])),
            prompt_logprobs=tuple(map(vocabulary.describe, self.prompt_scores)),
        )
