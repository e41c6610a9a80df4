import sys

import pytest

from training.watch.entries import EvaluationEntry, Sample, SamplesEntry
from training.watch.tensorboard import TensorBoardFiles


def test_a_missing_package_is_named_before_anything_is_trained(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    with pytest.raises(ValueError, match=r"pip install tensorboard, or set tensorboard=false"):
        TensorBoardFiles(tmp_path)


@pytest.mark.slow
def test_entries_become_scalars_and_answers_text(tmp_path, entry):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    files = TensorBoardFiles(tmp_path)

    files.write(entry)
    styles = {"terse": 1.0, "verbose": float("nan")}
    files.write(EvaluationEntry(50, 400, 0.5, 1.5, 4.48, styles, {"terse": 2.7}))
    files.write(SamplesEntry(50, (Sample("Why?", "terse", "So.", 2, True),)))
    files.end()

    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "training/loss",
        "training/learning_rate",
        "training/grad_norm",
        "training/tokens_per_second",
        "training/memory_gb",
        "training/epoch",
        "heldout/loss",
        "heldout/perplexity",
        "heldout/loss_terse",
        "heldout/perplexity_terse",
    }
    assert [(e.step, round(e.value, 4)) for e in events.Scalars("training/loss")] == [(50, 2.3412)]
    [text] = events.Tensors("answers/text_summary")
    assert b"So." in text.tensor_proto.string_val[0]


@pytest.mark.slow
def test_a_resumed_run_hides_what_came_after_its_checkpoint(tmp_path, entry):
    import dataclasses

    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for resumed_from, steps in ((0, (10, 20, 30)), (20, (30,))):
        files = TensorBoardFiles(tmp_path)
        files.begin(resumed_from)
        for step in steps:
            files.write(dataclasses.replace(entry, step=step, loss=float(resumed_from)))
        files.end()

    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    losses = [(e.step, e.value) for e in events.Scalars("training/loss")]
    assert losses == [(10, 0.0), (20, 0.0), (30, 20.0)]
