"""Writes what judging found out: `report.md` for people, `report.json`, and a plot of lengths."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from training.judging.markdown import escape, table
from training.judging.persona import PERSONA_PROMPTS, PERSONA_SEEDS
from training.judging.verdict import find, headline

if TYPE_CHECKING:
    from training.judging.score import Interval
    from training.judging.style_report import StyleReport

NUM_SAMPLES = 5
"""Questions whose answers are shown side by side."""
_TITLES = {
    "presets_off": "adapter, presets off",
    "presets_on": "adapter, presets on",
    "no_token": "adapter without a style token, presets off",
    "base_with_style_tokens": "base with the style tokens, presets off",
    "base_with_plain_instructions": "base with plain instructions, presets off",
    "base_with_presets": "base with the presets alone",
}


def write_report(report: StyleReport, folder: Path) -> Path:
    """Write the three files, replacing older ones; returns the path of `report.md`."""
    from training.plots import plot_lengths

    folder.mkdir(parents=True, exist_ok=True)
    plot_lengths(report.comparisons["presets_off"].lengths(), folder / "lengths.png")
    text = json.dumps(to_json(report), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    path = folder / "report.md"
    path.write_text(to_markdown(report), encoding="utf-8")
    return path


def to_json(report: StyleReport) -> dict[str, object]:
    """Everything, the verdict and the answers included, as plain data."""
    return {
        "adapter": report.manifest.name,
        "version": report.manifest.version,
        "verdict": headline(report),
        "findings": [dataclasses.asdict(finding) for finding in find(report)],
        **report.to_dict(),
        **report.texts(),
    }


def summary(report: StyleReport) -> str:
    """The verdict and its reasons, for a terminal."""
    lines = [headline(report)]
    lines += [f"  {'ok ' if found.passed else 'BAD'}  {found.text}" for found in find(report)]
    lines.append(f"  {_cost(report)}")
    return "\n".join(lines)


def to_markdown(report: StyleReport) -> str:
    """The report for people: the verdict first, then tables, then answers."""
    sections = [
        f"# Style report: {escape(report.manifest.name)} {escape(report.manifest.version)}",
        f"**{escape(headline(report))}**",
        "\n".join(f"- {'✓' if f.passed else '✗'} {escape(f.text)}" for f in find(report)),
        f"![Answer lengths per style](lengths.png)\n\n{escape(_cost(report))}",
        "## Lengths\n\n" + _lengths(report),
        "## Separation\n\n" + _separations(report),
    ]
    if report.losses:
        sections.append("## Perplexity on known answers\n\n" + _losses(report))
    sections += [
        "## Answers\n\nGreedy, presets off.\n\n" + _samples(report),
    ]
    if report.personas:  # nobody had time for them otherwise
        sections.append("## Persona\n\n" + _personas(report))
    return "\n\n".join(sections) + "\n"


def _lengths(report: StyleReport) -> str:
    source = (
        "the middle of the training lengths"
        if report.windows_are_trained
        else "stated limits, as this adapter does not tell its training lengths"
    )
    rows = [
        (
            _TITLES[where],
            name,
            f"{score.median_tokens:g}",
            f"{score.min_tokens} to {score.max_tokens}",
            "–" if score.violation_rate is None else f"{score.violation_rate:.0%}",
            f"{score.ended_share:.0%}",
            f"{score.repeating_share:.0%}",
        )
        for where, comparison in report.comparisons.items()
        for name, score in comparison.scores.items()
    ]
    windows = ", ".join(f"{name} {window}" for name, window in report.windows.items())
    header = ("asked", "for", "median tokens", "range", "outside window", "ended", "repeating")
    return (
        f"Windows in tokens: {escape(windows)} ({source}). *Ended* answers were ended by the "
        "model, not by a limit; *repeating* ones hold a run of four tokens more than twice.\n\n"
        + table(header, rows)
    )


def _separations(report: StyleReport) -> str:
    found = {
        where: comparison.separation
        for where, comparison in report.comparisons.items()
        if comparison.separation is not None
    }
    if not found:
        return "An adapter with one style has nothing to tell apart."
    rows = [
        (
            _TITLES[where],
            f"{s.median_ratio:.1f}",
            f"{s.paired_auc:.2f} {_interval(s.paired_auc_interval)}",
            f"{s.auc:.2f} {_interval(s.auc_interval)}",
            f"{s.swap_share:.0%}",
        )
        for where, s in found.items()
    ]
    short, long = report.styles[0], report.styles[-1]
    text = (
        f"How often the {escape(long)} answer is longer than the {escape(short)} one: to the same "
        "prompt (paired AUC) and to any prompt (AUC), 0.5 being chance, with the 95 % interval "
        "over resampled prompts. *Both in their windows* is the swap test: one prompt, both "
        "styles.\n\n"
    )
    header = ("asked", "median ratio", "paired AUC", "AUC", "both in their windows")
    return "\n\n".join([text + table(header, rows), *_cautions(report)])


def _cautions(report: StyleReport) -> Iterator[str]:
    presets, off = (
        report.comparisons[name].separation for name in ("base_with_presets", "presets_off")
    )
    assert presets is not None
    assert off is not None
    yield (
        f"The limits of the presets alone set answers of the base {presets.median_ratio:.1f} times "
        "apart; that is why the verdict goes by the answers with the presets off."
    )
    if off.paired_auc == 1:
        # the share with which as many prompts in a row have a probability of 5 %
        size = len(report.prompts)
        yield (
            f"Resampling cannot show what no prompt has shown: {size} of {size} are also met, one "
            f"time in twenty, with a true share of {0.05 ** (1 / size):.2f}."
        )


def _losses(report: StyleReport) -> str:
    from training.judging.loss import total

    losses = {**report.losses, "all": total(report.losses.values())}
    rows = [
        (name, str(found.num_rows), str(found.num_tokens), f"{found.loss:.4f}",
         f"{found.perplexity:.3f}")
        for name, found in losses.items()
    ]  # fmt: skip
    header = ("style", "rows", "tokens", "loss per token", "perplexity")
    return "Answers only, the end of text included, under the adapter.\n\n" + table(header, rows)


def _samples(report: StyleReport) -> str:
    outputs = report.comparisons["presets_off"].answers
    rows = [
        (prompt, *(_cut(outputs[style][number].text) for style in report.styles))
        for number, prompt in enumerate(report.prompts[:NUM_SAMPLES])
    ]
    return table(("question", *report.styles), rows)


def _personas(report: StyleReport) -> str:
    overlaps = ", ".join(
        f"{style} {persona.word_overlap:.2f}" for style, persona in report.personas.items()
    )
    rows = [
        (prompt, *(_cut(p.texts[number][0]) for p in report.personas.values()))
        for number, prompt in enumerate(PERSONA_PROMPTS)
    ]
    text = (
        f"Each prompt was answered {len(PERSONA_SEEDS)} times at the style's own preset; shown is "
        "the first answer. Word overlap, the mean share of words that two answers to one prompt "
        f"have in common (1: the same words every time): {escape(overlaps)}.\n\n"
    )
    return text + table(("prompt", *report.personas), rows)


def _cost(report: StyleReport) -> str:
    return (
        f"Judged on {len(report.prompts)} prompts with {report.num_answers} answers "
        f"in {report.seconds:.0f} seconds on {report.device}."
    )


def _interval(interval: Interval) -> str:
    return f"({interval[0]:.2f} to {interval[1]:.2f})"


def _cut(text: str, most: int = 900) -> str:
    return text if len(text) <= most else text[:most].rstrip() + " …"
