"""Whether an adapter has learned its styles, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from training.judging.style_report import Comparison, StyleReport

RATIO_AT_LEAST = 3.0
"""Median length of the longest style over that of the shortest."""
OUTSIDE_AT_MOST = 0.25
"""Answers that may lie outside their window; of the training answers themselves, a tenth does."""
FLAWED_AT_MOST = 0.1
"""Answers that may repeat themselves or be cut off."""
_CONTROLS = {
    "base_with_style_tokens": "the style tokens alone",
    "base_with_plain_instructions": "plain instructions",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    passed: bool
    text: str


def find(report: StyleReport) -> list[Finding]:
    """What speaks for and against the adapter, presets off: they could fake every length."""
    off = report.comparisons["presets_off"]
    return [
        *_window_findings(report, off),
        *_separation_findings(report, off),
        *_ending_findings(off),
    ]


def headline(report: StyleReport) -> str:
    """The verdict in one sentence."""
    failed = [finding for finding in find(report) if not finding.passed]
    styles = ", ".join(report.styles)
    if not failed:
        return f"The adapter has learned its styles ({styles})."
    count = "one finding speaks" if len(failed) == 1 else f"{len(failed)} findings speak"
    return f"The adapter has not learned its styles ({styles}) well: {count} against it."


def _window_findings(report: StyleReport, off: Comparison) -> Iterator[Finding]:
    for name, window in report.windows.items():
        found = off.scores[name]
        assert found.violation_rate is not None
        yield Finding(
            window.holds(found.median_tokens) and found.violation_rate <= OUTSIDE_AT_MOST,
            f"{name} answers have {found.median_tokens:g} tokens in the median ({window} wanted); "
            f"{found.violation_rate:.0%} lie outside.",
        )


def _separation_findings(report: StyleReport, off: Comparison) -> Iterator[Finding]:
    if off.separation is None:
        return
    short, long = report.styles[0], report.styles[-1]
    ratio = off.separation.median_ratio
    yield Finding(
        ratio >= RATIO_AT_LEAST,
        f"{long} answers are {ratio:.1f} times as long as {short} ones ({RATIO_AT_LEAST:g} times "
        f"wanted), and the longer ones for {off.separation.paired_auc:.0%} of the prompts.",
    )
    for name, words in _CONTROLS.items():
        control = report.comparisons[name].separation
        assert control is not None
        passed = ratio > control.median_ratio and (off.separation.paired_auc >= control.paired_auc)
        less = "does less" if passed else "does as much"
        yield Finding(
            passed,
            f"The base {less} without the adapter: with {words}, {long} answers are "
            f"{control.median_ratio:.1f} times as long as {short} ones, and the longer ones for "
            f"{control.paired_auc:.0%} of the prompts.",
        )


def _ending_findings(off: Comparison) -> Iterator[Finding]:
    for name, found in off.scores.items():
        yield Finding(
            1 - found.ended_share <= FLAWED_AT_MOST and found.repeating_share <= FLAWED_AT_MOST,
            f"{found.ended_share:.0%} of the {name} answers end by themselves, "
            f"{found.repeating_share:.0%} repeat themselves.",
        )
