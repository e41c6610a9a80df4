import json
import random

import pytest

from training.plots import plot_lengths, plot_losses


@pytest.fixture
def log(tmp_path):
    """The log of a short run."""
    entries = [{"event": "training", "step": step, "loss": 4.0 / step} for step in range(1, 41)]
    for step in (10, 20, 40):
        styles = {"terse": 3 / step, "verbose": 5 / step}
        losses = {"heldout_loss": 4 / step, "heldout_loss_by_style": styles}
        entries.append({"event": "evaluation", "step": step, **losses})
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.fixture
def axes(monkeypatch):
    """What was drawn: the axes of each figure that was written, none of them painted."""
    from matplotlib.figure import Figure

    found = []

    def save(figure, path, **_):
        path.write_bytes(b"a picture")
        found.extend(figure.axes)

    monkeypatch.setattr(Figure, "savefig", save)
    return found


def curves(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}


def test_losses_of_training_and_of_each_style_are_drawn(log, axes, tmp_path):
    png = tmp_path / "plots" / "losses.png"

    plot_losses(log, png)

    drawn = curves(axes[0])
    assert set(drawn) == {
        "training",
        "held-out, terse",
        "held-out, verbose",
        "held-out, all styles",
    }
    assert len(drawn["training"]) == 40
    assert drawn["held-out, terse"] == [[10, 0.3], [20, 0.15], [40, 0.075]]
    assert drawn["held-out, all styles"][-1] == [40, 0.1]
    assert axes[0].get_xlabel() == "optimizer steps"
    assert axes[0].get_ylabel() == "loss (nats per token)"
    assert png.read_bytes() == b"a picture"


def test_styles_differ_in_color_and_in_marker(log, axes, tmp_path):
    plot_losses(log, tmp_path / "losses.png")

    lines = [line for line in axes[0].get_lines() if "held-out" in line.get_label()]
    assert len({line.get_color() for line in lines}) == 3
    assert len({line.get_marker() for line in lines}) == 3


def test_a_style_alone_is_not_drawn_twice(tmp_path, axes):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "heldout_loss": 1, "heldout_loss_by_style": {"terse": 1}}\n')

    plot_losses(path, tmp_path / "losses.png")

    assert set(curves(axes[0])) == {"held-out, terse"}


def test_lost_losses_leave_a_gap_and_a_step_measured_again_keeps_its_value(tmp_path, axes):
    path = tmp_path / "log.jsonl"
    rows = [(1, 3.0), (2, None), (3, 1.0), (3, 0.5)]
    path.write_text("".join(json.dumps({"step": s, "loss": x}) + "\n" for s, x in rows))

    plot_losses(path, tmp_path / "losses.png")

    assert curves(axes[0])["training"] == [[1, 3.0], [3, 1.0]]


def test_the_loss_of_preferences_is_not_one_per_token(tmp_path, axes):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": 0.69, "metrics": {"rewards/margins": 0.0}}\n')

    plot_losses(path, tmp_path / "losses.png")

    assert axes[0].get_ylabel() == "loss"


def test_a_log_without_losses_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": null}\n')

    with pytest.raises(ValueError, match=r"log.jsonl holds no losses"):
        plot_losses(tmp_path / "log.jsonl", tmp_path / "losses.png")


def test_every_answer_is_a_dot_in_the_row_of_its_style(tmp_path, axes):
    rng = random.Random(1)
    lengths = {
        "terse": [rng.randint(8, 25) for _ in range(25)],
        "verbose": [rng.randint(90, 230) for _ in range(25)],
    }

    plot_lengths(lengths, tmp_path / "lengths.png")

    for row, drawn in enumerate(axes[0].collections):
        dots = drawn.get_offsets().tolist()
        assert [x for x, _ in dots] == list(lengths.values())[row]
        assert all(abs(y - row) < 0.5 for _, y in dots)
    names = [label.get_text() for label in axes[0].get_yticklabels()]
    assert names == ["terse\n(25 answers)", "verbose\n(25 answers)"]
    assert axes[0].get_xlabel() == "answer length (tokens)"
    assert axes[0].get_xlim()[0] == 0


@pytest.mark.slow
def test_the_same_answers_give_the_same_picture(tmp_path):
    for name in ("a.png", "b.png"):
        plot_lengths({"terse": [3, 4, 5]}, tmp_path / name)

    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_style_without_answers_is_left_out_and_none_at_all_is_refused(tmp_path, axes):
    plot_lengths({"terse": [5], "verbose": []}, tmp_path / "lengths.png")
    assert len(axes[0].collections) == 1

    with pytest.raises(ValueError, match="no answers"):
        plot_lengths({"terse": []}, tmp_path / "lengths.png")
