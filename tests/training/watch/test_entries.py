import math

from training.watch.entries import EvaluationEntry, Sample, SamplesEntry, finite, to_dict


def test_an_entry_names_its_kind_and_every_field(entry):
    data = to_dict(entry)

    assert data["event"] == "training"
    assert data["step"] == 50
    assert data["tokens_per_second"] == 1240.4
    assert data["metrics"] == {}


def test_answers_are_plain_data():
    data = to_dict(SamplesEntry(5, (Sample("Why?", "terse", "So.", 2, True),)))

    assert data == {
        "event": "samples",
        "step": 5,
        "samples": [
            {"prompt": "Why?", "style": "terse", "text": "So.", "tokens": 2, "ended": True}
        ],
    }


def test_what_is_no_number_is_null_wherever_it_stands():
    styles = {"terse": math.nan, "verbose": 1.0}

    data = to_dict(EvaluationEntry(5, 9, 0.5, math.inf, heldout_loss_by_style=styles))

    assert data["heldout_loss"] is None
    assert data["heldout_loss_by_style"] == {"terse": None, "verbose": 1.0}


def test_numbers_flags_and_texts_stay_what_they_are():
    data = {"a": [0, 0.0, True, "NaN", None, -math.inf]}

    assert finite(data) == {"a": [0, 0.0, True, "NaN", None, None]}
