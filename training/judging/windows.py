"""How long answers in each style ought to be: as in the training rows, else by stated limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.manifest import AdapterManifest
from adapters.styles import Style

SHORT_AT_MOST = 50
"""Tokens of an answer in the shortest style, where the training lengths are not known."""
LONG_AT_LEAST = 80
"""Tokens of one in the longest style, likewise."""


@dataclass(frozen=True)
class Window:
    """Answer lengths in tokens that suit a style."""

    at_least: int = 0
    at_most: int | None = None

    def holds(self, num_tokens: float) -> bool:
        """Whether an answer of that length suits the style."""
        return num_tokens >= self.at_least and (self.at_most is None or num_tokens <= self.at_most)

    def __str__(self) -> str:
        """In words: `at most 50`, `at least 80`, `20 to 60`, `any`."""
        if self.at_most is None:
            return f"at least {self.at_least}" if self.at_least else "any"
        return f"{self.at_least} to {self.at_most}" if self.at_least else f"at most {self.at_most}"


def shortest_first(manifest: AdapterManifest) -> tuple[Style, ...]:
    """The styles in the order of their lengths in training, or of their presets' limits."""
    lengths = _training_lengths(manifest)

    def length(style: Style) -> tuple[float, ...]:
        if lengths is not None:
            return (lengths[style.name]["p50"],)
        return (style.preset.max_new_tokens, style.preset.min_new_tokens)

    return tuple(sorted(manifest.styles, key=length))


def windows_of(manifest: AdapterManifest) -> dict[str, Window]:
    """A window for each style, the shortest first.

    Nine in ten training answers of the shortest style are no longer than its window allows, nine
    in ten of the longest no shorter; any style between the two is held to both ends.
    """
    styles = shortest_first(manifest)
    lengths = _training_lengths(manifest)
    if lengths is not None:
        return _trained_windows(styles, lengths)
    windows = {style.name: Window() for style in styles}
    if len(styles) > 1:
        windows[styles[0].name] = Window(at_most=SHORT_AT_MOST)
        windows[styles[-1].name] = Window(at_least=LONG_AT_LEAST)
    return windows


def are_trained(manifest: AdapterManifest) -> bool:
    """Whether the windows are those of the training rows."""
    return _training_lengths(manifest) is not None


def _trained_windows(
    styles: Sequence[Style], lengths: Mapping[str, Mapping[str, float]]
) -> dict[str, Window]:
    windows = {}
    for style in styles:
        quantiles = lengths[style.name]
        windows[style.name] = Window(
            at_least=0 if style is styles[0] and len(styles) > 1 else int(quantiles["p10"]),
            at_most=None if style is styles[-1] and len(styles) > 1 else int(quantiles["p90"]),
        )
    return windows


def _training_lengths(manifest: AdapterManifest) -> Mapping[str, Any] | None:
    """Quantiles in answer tokens by style name; older manifests have none."""
    lengths = manifest.training.get("lengths", {})
    return lengths if all(style.name in lengths for style in manifest.styles) else None
