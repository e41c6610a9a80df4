"""Entries as people read them, a line each."""

from __future__ import annotations

import math

from training.watch.entries import EvaluationEntry, SamplesEntry, TrainingEntry

_SEPARATOR = " · "


def training_line(entry: TrainingEntry) -> str:
    """`step 50/400 · loss 2.341 · lr 1.9e-4 · 1,240 tok/s · 11.2 GB (47 %) · ETA 3 min 20 s`."""
    return _SEPARATOR.join([_step(entry), *_figures(entry), *_time_left(entry)])


def bar_text(entry: TrainingEntry) -> str:
    """The same behind a bar that shows the step; what a narrow terminal cuts off comes last."""
    return _SEPARATOR.join([*_time_left(entry), *_figures(entry)])


def evaluation_line(entry: EvaluationEntry) -> str:
    """`step 50/400 · held-out loss 1.23 (terse 1.30, verbose 1.19) · perplexity 3.4 (…)`."""
    losses = _by_style(entry.heldout_loss_by_style, ".3f")
    parts = [
        _step(entry),
        f"held-out loss {entry.heldout_loss:.3f}{losses}",
    ]
    if entry.heldout_perplexity is not None:
        perplexities = _by_style(entry.heldout_perplexity_by_style, ",.2f")
        parts.append(f"perplexity {entry.heldout_perplexity:,.2f}{perplexities}")
    return _SEPARATOR.join(parts)


def samples_text(entry: SamplesEntry) -> str:
    """Every question with its answers below it, one line each."""
    lines = []
    width = max((len(sample.style) for sample in entry.samples), default=0)
    previous = None
    for sample in entry.samples:
        if sample.prompt != previous:
            lines.append(f"  {_one_line(sample.prompt)}")
            previous = sample.prompt
        more = "" if sample.ended else " …"
        lines.append(f"    {sample.style:{width}}  {_one_line(sample.text)}{more}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min` or `1 d 3 h`."""
    if not math.isfinite(seconds):
        return "unknown"
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _step(entry: TrainingEntry | EvaluationEntry) -> str:
    whole = "" if entry.total_steps is None else f"/{entry.total_steps}"
    return f"step {entry.step}{whole}"


def _figures(entry: TrainingEntry) -> list[str]:
    parts = [f"loss {entry.loss:.3f}"]
    if entry.learning_rate is not None:
        parts.append(f"lr {_scientific(entry.learning_rate)}")
    if entry.tokens_per_second is not None:
        parts.append(f"{entry.tokens_per_second:,.0f} tok/s")
    if entry.memory_gb is not None:
        share = "" if entry.memory_share is None else f" ({entry.memory_share * 100:.0f} %)"
        parts.append(f"{entry.memory_gb:.1f} GB{share}")
    return parts


def _time_left(entry: TrainingEntry) -> list[str]:
    return [] if entry.eta_seconds is None else [f"ETA {duration(entry.eta_seconds)}"]


def _scientific(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def _by_style(values: dict[str, float], form: str) -> str:
    if not values:
        return ""
    return f" ({', '.join(f'{style} {value:{form}}' for style, value in values.items())})"


def _one_line(text: str) -> str:
    # What a model writes may hold control characters that would upset a terminal.
    shown = (character if character.isprintable() else " " for character in text)
    return " ".join("".join(shown).split())
