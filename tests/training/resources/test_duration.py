import pytest

from tests.training.shapes import MISTRAL_7B, TINYLLAMA, settings
from training.resources.duration import estimate_seconds, num_steps, usual_tokens

H200 = "NVIDIA H200"
# As the bundled rows: 800 short and 800 long ones, 198,000 tokens.
LENGTHS = [40, 208] * 800
PADDED = settings(padding_free=False)
DENSE = settings(padding_free=True)
DENSE_NO_DROPOUT = settings(padding_free=True, lora_dropout=0.0)

# Seconds of an epoch of 1,600 rows on one H200: bench/RESULTS.md (first line) and DESIGN.
MEASURED = [
    ("golden recipe", PADDED, 16, 32, 59.7),
    ("16 padded rows, no checkpointing", PADDED, 16, 0, 38),
    ("1 row", PADDED, 1, 32, 434),
    ("padding-free", DENSE, 16, 32, 46),
    ("padding-free, no dropout", DENSE_NO_DROPOUT, 16, 32, 33.5),
    ("the same, no checkpointing", DENSE_NO_DROPOUT, 16, 0, 24),
]


def seconds(config=DENSE, size=16, layers=32, *, shape=MISTRAL_7B, gpu=H200, lengths=LENGTHS):
    return estimate_seconds(
        shape, config, lengths, micro_batch_size=size, checkpointed_layers=layers, gpu=gpu
    )


@pytest.mark.parametrize(
    ("config", "size", "layers", "measured"),
    [line[1:] for line in MEASURED],
    ids=[line[0] for line in MEASURED],
)
def test_the_estimate_is_within_20_percent_of_a_measured_epoch(config, size, layers, measured):
    assert seconds(config, size, layers) == pytest.approx(measured, rel=0.2)


@pytest.mark.parametrize("gpu", ["NVIDIA A10G", "", None])
def test_nothing_is_guessed_for_hardware_that_was_not_measured(gpu):
    assert seconds(gpu=gpu) is None


def test_a_time_budget_is_what_it_says():
    assert seconds(settings(hours=0.5), gpu=None) == 1800


def test_a_layer_that_is_not_computed_twice_saves_time():
    times = [seconds(layers=layers) for layers in (32, 16, 0)]

    assert times == sorted(times, reverse=True)
    assert times[0] - times[1] == pytest.approx(times[1] - times[2])


def test_a_smaller_model_takes_less_time():
    assert seconds(layers=0, shape=TINYLLAMA) < 0.5 * seconds(layers=0)


def test_time_grows_with_the_steps():
    once, twice = (seconds(settings(epochs=epochs)) for epochs in (1.0, 2.0))

    assert twice == 2 * once


@pytest.mark.parametrize(
    ("values", "num_rows", "steps"),
    [
        ({}, 1600, 100),
        ({}, 1601, 101),
        ({"epochs": 0.5}, 1600, 50),
        ({"epochs": 3.0}, 17, 6),
        ({"max_steps": 7}, 1600, 7),
        ({"effective_batch_size": 32}, 1600, 50),
    ],
)
def test_steps_are_counted_as_the_trainer_counts_them(values, num_rows, steps):
    assert num_steps(settings(**values), num_rows) == steps


def test_a_padded_micro_batch_costs_its_longest_row_each_time():
    assert usual_tokens([10, 30], 2, padded=True) == 60
    assert usual_tokens([10, 30], 2, padded=False) == 40


def test_the_usual_micro_batch_is_that_of_rows_in_random_order():
    rows = [10] * 50 + [90] * 50

    assert usual_tokens(rows, 4, padded=False) == 200
    # in the order of the file half the batches would be short throughout: 200
    assert usual_tokens(rows, 4, padded=True) > 300
