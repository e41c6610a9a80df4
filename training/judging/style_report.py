"""Everything that judging an adapter found out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters.manifest import AdapterManifest
from training.judging.loss import Loss, total
from training.judging.persona import PERSONA_PROMPTS, PersonaAnswers
from training.judging.score import Separation, StyleScore, score, separate
from training.judging.windows import Window

if TYPE_CHECKING:
    from training.judging.asking import Answers

CONTROLS = (
    "no_token",
    "base_with_style_tokens",
    "base_with_plain_instructions",
    "base_with_presets",
)
"""What the styles are compared with; all but the first without the adapter."""


@dataclass(frozen=True)
class Comparison:
    """Answers to the same prompts, asked for in different ways, the shortest first."""

    answers: Answers
    scores: dict[str, StyleScore]
    """By the names of the answers."""
    separation: Separation | None
    """Of the first and the last; None where there is nothing to compare."""

    def lengths(self) -> dict[str, list[int]]:
        """Tokens of the answers."""
        return {name: [len(o.ids) for o in outputs] for name, outputs in self.answers.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the answers."""
        data: dict[str, Any] = {n: dataclasses.asdict(s) for n, s in self.scores.items()}
        if self.separation is not None:
            data["separation"] = dataclasses.asdict(self.separation)
        return data


@dataclass(frozen=True)
class StyleReport:
    """What an adapter answers in its styles, and what it and its base do otherwise."""

    manifest: AdapterManifest
    prompts: tuple[str, ...]
    windows: dict[str, Window]
    """By style, the shortest first; so are all answers."""
    windows_are_trained: bool
    """Whether they come from the training rows; else they are stated limits."""
    comparisons: dict[str, Comparison]
    """`presets_off`, `presets_on` and `CONTROLS`."""
    personas: dict[str, PersonaAnswers]
    """By style; empty if there was no time to ask."""
    losses: dict[str, Loss]
    """By style; empty if no rows were given."""
    device: str
    num_answers: int
    seconds: float
    """All of it, loading included."""

    @property
    def styles(self) -> tuple[str, ...]:
        """Names of the styles, the shortest first."""
        return tuple(self.windows)

    def to_dict(self) -> dict[str, Any]:
        """What goes into the manifest: every number, no text of an answer."""
        data: dict[str, Any] = {"num_prompts": len(self.prompts)}
        data |= {name: compared.to_dict() for name, compared in self.comparisons.items()}
        data["persona"] = {
            style: {"word_overlap": persona.word_overlap}
            for style, persona in self.personas.items()
        }
        if self.losses:
            data["heldout"] = {
                **total(self.losses.values()).to_dict(),
                "styles": {style: loss.to_dict() for style, loss in self.losses.items()},
            }
        windows = {name: dataclasses.asdict(window) for name, window in self.windows.items()}
        data["windows"] = {"from_training": self.windows_are_trained, "styles": windows}
        data["num_answers"] = self.num_answers
        data["seconds"] = self.seconds
        return data

    def texts(self) -> dict[str, Any]:
        """The answers themselves, for `report.json`."""
        persona = [
            {"prompt": prompt, "texts": {s: p.texts[i] for s, p in self.personas.items()}}
            for i, prompt in enumerate(PERSONA_PROMPTS)
        ]
        answers = {
            name: [
                {"prompt": prompt, "texts": {n: found[i].text for n, found in c.answers.items()}}
                for i, prompt in enumerate(self.prompts)
            ]
            for name, c in self.comparisons.items()
        }
        return {"answers": answers, "persona_answers": persona}


def compare(answers: Answers, windows: Sequence[Window | None]) -> Comparison:
    """Score sets of answers; those with windows, the shortest first, are told apart as well."""
    scores = {
        name: score(outputs, window)
        for (name, outputs), window in zip(answers.items(), windows, strict=True)
    }
    first, last = windows[0], windows[-1]
    if len(answers) < 2 or first is None or last is None:
        return Comparison(answers, scores, None)
    lengths = [[len(output.ids) for output in outputs] for outputs in answers.values()]
    return Comparison(answers, scores, separate(lengths[0], lengths[-1], (first, last)))
