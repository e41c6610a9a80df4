"""Pictures of a run: its losses, and how long the answers are in each style."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.watch.log_file import read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with any colour vision can tell apart; markers differ too.
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_GREY = "#555555"
_DOTS_PER_INCH = 150


def plot_losses(log_path: Path, png_path: Path) -> None:
    """Draw the loss of training and of the held-out rows over the steps.

    Args:
        log_path: the `log.jsonl` of a run.
        png_path: where the picture goes; its folder is made.

    Raises:
        ValueError: the log holds no loss.
    """
    entries = read_log(log_path)
    training = _points(entries, "loss")
    heldout = _points(entries, "heldout_loss")
    if not training and not heldout:
        raise ValueError(f"{log_path} holds no losses")
    figure, axes = _new_figure(4.5)
    if training:
        mark = "." if len(training) == 1 else ""
        axes.plot(*zip(*training, strict=True), color=_GREY, marker=mark, label="training")
    styles = sorted({style for entry in entries for style in entry.get(_BY_STYLE) or {}})
    for index, style in enumerate(styles):
        points = _points(entries, _BY_STYLE, style)
        if points:
            _draw_heldout(axes, points, f"held-out, {style}", index)
    if heldout and len(styles) != 1:
        label = "held-out, all styles" if styles else "held-out"
        axes.plot(
            *zip(*heldout, strict=True), color="black", linestyle=":", marker="x", label=label
        )
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel(_loss_unit(entries))
    axes.set_title("Loss of training and of held-out rows")
    axes.legend(frameon=False)
    _save(figure, png_path)


def plot_lengths(lengths_by_style: Mapping[str, Sequence[int]], png_path: Path) -> None:
    """Draw how long the answers of each style are: a dot an answer, a box for half of them.

    Args:
        lengths_by_style: tokens of each answer.
        png_path: where the picture goes; its folder is made.

    Raises:
        ValueError: there is not one answer.
    """
    groups = {style: list(lengths) for style, lengths in lengths_by_style.items() if lengths}
    if not groups:
        raise ValueError("there are no answers to draw the lengths of")
    figure, axes = _new_figure(1.6 + 0.9 * len(groups))
    rng = random.Random(0)  # the same picture from the same answers
    for index, lengths in enumerate(groups.values()):
        color = _COLORS[index % len(_COLORS)]
        heights = [index + rng.uniform(-0.16, 0.16) for _ in lengths]
        axes.boxplot(
            lengths,
            positions=[index],
            orientation="horizontal",
            widths=0.55,
            showfliers=False,
            medianprops={"color": "black", "linewidth": 2},
            boxprops={"color": _GREY},
        )
        marker = _MARKERS[index % len(_MARKERS)]
        axes.scatter(lengths, heights, s=22, alpha=0.6, color=color, marker=marker, linewidths=0)
    names = [f"{style}\n({len(lengths)} answers)" for style, lengths in groups.items()]
    axes.set_yticks(range(len(groups)), names)
    axes.set_ylim(len(groups) - 0.5, -0.5)  # the first style on top
    axes.set_xlim(left=0)
    axes.set_xlabel("answer length (tokens)")
    axes.set_title("Answer length per style; the line in each box is the median")
    _save(figure, png_path)


_BY_STYLE = "heldout_loss_by_style"


def _points(
    entries: Sequence[Mapping[str, Any]], name: str, style: str | None = None
) -> list[tuple[int, float]]:
    """Steps with a value; the end may be measured again with the best checkpoint's weights."""
    points: dict[int, float] = {}
    for entry in entries:
        value = entry.get(name)
        if style is not None:
            value = (value or {}).get(style)
        if value is not None:
            points.setdefault(entry["step"], value)
    return sorted(points.items())


def _loss_unit(entries: Sequence[Mapping[str, Any]]) -> str:
    # The loss of DPO and KTO is one of pairs and answers; only they tell of rewards.
    names = {name for entry in entries for name in entry.get("metrics") or {}}
    preference = any(name.startswith("rewards/") for name in names)
    return "loss" if preference else "loss (nats per token)"


def _draw_heldout(axes: Axes, points: list[tuple[int, float]], label: str, index: int) -> None:
    color, marker = _COLORS[index % len(_COLORS)], _MARKERS[index % len(_MARKERS)]
    axes.plot(*zip(*points, strict=True), color=color, marker=marker, label=label)


def _new_figure(height_inches: float) -> tuple[Figure, Axes]:
    # Without pyplot: no display is looked for, and nothing stays in memory.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, height_inches), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, png_path: Path) -> None:
    """Write the picture in one move, so that nobody reads half of one."""
    png_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = png_path.with_name(f"{png_path.name}.tmp")
    figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH)
    temporary.replace(png_path)
