import dataclasses

import pytest

from tests.training.shapes import MISTRAL_7B, settings
from training.resources.memory import estimate
from training.resources.plan import (
    Plan,
    choose_plan,
    describe_checkpointing,
    most_tokens,
    row_lengths,
    usable_bytes,
)

GB = 10**9
LENGTHS = [50, 200] * 800


def plan(free_gb=80.0, lengths=LENGTHS, *, num_gpus=1, **values):
    free = None if free_gb is None else round(free_gb * GB)
    return choose_plan(MISTRAL_7B, settings(**values), lengths, free, num_gpus=num_gpus)


def choice(*arguments, **values):
    found = plan(*arguments, **values)
    return found.micro_batch_size, found.checkpointed_layers, found.checkpointed_mlps


# What is chosen


def test_with_room_for_everything_nothing_is_computed_twice():
    assert choice(80) == (16, 0, 0)


def test_with_less_room_feed_forward_blocks_are_checkpointed_then_whole_layers():
    choices = [choice(80, memory_gb=budget) for budget in (30, 24, 20, 16, 12, 9)]

    assert {size for size, _, _ in choices} == {16}
    assert choices[0] == (16, 0, 0)
    assert 0 < choices[2][2] < 32
    assert choices[2][1] == 0
    assert choices[-1][1] > 0
    for _, layers, mlps in choices:
        assert layers == 0 or layers + mlps == 32


@pytest.mark.parametrize("budget", [10, 12, 16, 20])
def test_what_is_chosen_fits_and_one_less_would_not_have(budget):
    found = plan(80, memory_gb=budget)
    layers, mlps = found.checkpointed_layers, found.checkpointed_mlps
    less = (layers - 1, mlps + 1) if layers else (0, mlps - 1)

    tighter = estimate(
        MISTRAL_7B,
        settings(),
        tokens=found.tokens,
        checkpointed_layers=less[0],
        checkpointed_mlps=less[1],
    )

    assert found.estimate.total <= budget * GB < tighter.total


def test_a_model_without_such_blocks_has_whole_layers_checkpointed():
    linears = tuple(dataclasses.replace(linear, block="") for linear in MISTRAL_7B.linears)
    shape = dataclasses.replace(MISTRAL_7B, linears=linears)

    found = choose_plan(shape, settings(memory_gb=12), LENGTHS, 80 * GB)

    assert found.checkpointed_layers > 0
    assert found.checkpointed_mlps == 0


@pytest.mark.parametrize(
    ("layers", "mlps", "text"),
    [
        (0, 0, "no layer checkpointed"),
        (0, 9, "the feed-forward blocks of 9 of 32 layers checkpointed"),
        (32, 0, "32 of 32 layers checkpointed"),
        (3, 29, "3 of 32 layers checkpointed, and the feed-forward blocks of 29 more"),
    ],
)
def test_checkpointing_is_told_in_words(layers, mlps, text):
    assert describe_checkpointing(Plan(16, layers, mlps, 0, None), 32) == text


def test_fewer_rows_at_once_come_only_when_checkpointing_does_not_suffice():
    sizes = [plan(80, memory_gb=budget).micro_batch_size for budget in (6.4, 6.7, 7, 8, 12)]

    assert sizes == sorted(sizes)
    assert sizes[0] < 16
    assert sizes[-1] == 16


def test_rows_at_once_divide_the_batch():
    for budget in (6.4, 6.7, 7, 8):
        assert 12 % plan(80, memory_gb=budget, effective_batch_size=12).micro_batch_size == 0


def test_the_rows_are_shared_between_gpus():
    assert plan(80, num_gpus=4).micro_batch_size == 4


def test_the_largest_micro_batch_that_can_occur_is_planned_for():
    assert plan(80).tokens == 16 * 200
    assert plan(80, lengths=[10] * 100 + [300]).tokens == 15 * 10 + 300
    assert plan(80, lengths=[10] * 100 + [300], padding_free=False).tokens == 16 * 300


def test_fewer_rows_than_a_batch_are_all_there_is():
    assert most_tokens([10, 20], 16, padded=False) == 30
    assert most_tokens([10, 20], 16, padded=True) == 40


def test_preferences_are_planned_with_padding():
    assert plan(80, lengths=[10] * 100 + [300], method="dpo").tokens == 16 * 300


def test_kto_needs_two_rows_at_once():
    budgets = {"memory_gb": 7.5, "effective_batch_size": 2}
    long = [1500, 1500]

    assert plan(80, lengths=long, **budgets).micro_batch_size == 1
    with pytest.raises(ValueError, match="micro-batches of 2 rows"):
        plan(80, lengths=long, method="kto", **budgets)


# What is fixed


def test_a_given_number_of_rows_is_kept():
    assert plan(80, micro_batch_size=2).micro_batch_size == 2


@pytest.mark.parametrize(("setting", "layers"), [(True, 32), (False, 0)])
def test_given_checkpointing_is_kept(setting, layers):
    assert plan(80, gradient_checkpointing=setting).checkpointed_layers == layers


def test_rows_are_given_up_before_a_setting_is():
    assert choice(13, gradient_checkpointing=False, memory_gb=12) == (4, 0, 0)


# Which memory


def test_a_tenth_of_the_free_memory_is_left():
    assert usable_bytes(settings(), 10 * GB) == 9 * GB


def test_a_memory_budget_counts_as_far_as_it_is_there():
    assert usable_bytes(settings(memory_gb=12), 80 * GB) == 12 * GB
    assert usable_bytes(settings(memory_gb=12), 10 * GB) == 10 * GB


# The CPU


@pytest.mark.parametrize(("effective", "size"), [(16, 4), (12, 4), (6, 3), (10, 2), (7, 1), (2, 2)])
def test_a_cpu_takes_up_to_four_rows_and_computes_nothing_twice(effective, size):
    assert choice(None, effective_batch_size=effective) == (size, 0, 0)


def test_a_cpu_keeps_to_what_is_given():
    assert choice(None, micro_batch_size=8, gradient_checkpointing=True) == (8, 32, 0)


# What is refused


def test_what_fits_nowhere_is_refused_with_the_numbers_and_what_to_change():
    with pytest.raises(ValueError, match="does not fit") as refusal:
        plan(24, memory_gb=5, padding_free=False, quantization="none", micro_batch_size=4)

    text = str(refusal.value)
    assert "5.0 GB may be used (24.0 GB are free)" in text
    assert "at least 17." in text
    assert "4 rows (800 tokens) with as much checkpointed as the settings allow" in text
    for advice in ("memory_gb", "micro_batch_size", "padding_free", "quantization", "max_length"):
        assert advice in text


def test_advice_is_only_what_would_change_something():
    with pytest.raises(ValueError, match="does not fit") as refusal:
        plan(4)

    for advice in ("memory_gb", "micro_batch_size", "padding_free", "quantization"):
        assert advice not in str(refusal.value)
    assert "lower lora_r" in str(refusal.value)


@pytest.mark.parametrize(("gpus", "size"), [(3, 0), (4, 8)])
def test_a_batch_that_the_gpus_cannot_share_is_refused(gpus, size):
    with pytest.raises(ValueError, match=f"must be a multiple of {gpus} GPUs"):
        plan(80, num_gpus=gpus, micro_batch_size=size)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no rows"):
        plan(80, lengths=[])


# Lengths


def test_a_row_is_as_long_as_what_the_model_reads_of_it():
    columns = {
        "input_ids": [[1, 2, 3]],
        "prompt_ids": [[1, 2]],
        "chosen_ids": [[3]],
        "rejected_ids": [[4, 5, 6]],
        "completion_ids": [[3, 4]],
    }

    assert row_lengths(columns, "sft") == [3]
    assert row_lengths(columns, "dpo") == [10]  # two rows of 5
    assert row_lengths(columns, "kto") == [4]
