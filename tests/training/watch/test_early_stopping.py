import dataclasses
from types import SimpleNamespace

import pytest

from training.watch.early_stopping import Best, EarlyStopping, find_best


def history(*losses):
    """Evaluations at steps 10, 20, …, with entries of training between them."""
    entries = []
    for number, loss in enumerate(losses, 1):
        entries.append({"step": number * 10, "loss": 0.001})
        entries.append({"step": number * 10, "eval_loss": loss})
    return entries


@pytest.fixture
def said():
    return []


@pytest.fixture
def stops(said):
    """Whether training stops after evaluations with these losses, waiting for two."""

    def stops(*losses, main=True):
        control = SimpleNamespace(should_training_stop=False)
        state = SimpleNamespace(log_history=history(*losses), is_world_process_zero=main)
        EarlyStopping(2, said.append).on_evaluate(None, state, control)
        return control.should_training_stop

    return stops


def test_the_best_evaluation_has_the_lowest_loss():
    assert find_best(history(3.0, 1.0, 2.0, 1.5)) == Best(20, 1.0, 2)


def test_of_equal_losses_the_first_is_the_best():
    assert find_best(history(1.0, 1.0)) == Best(10, 1.0, 1)


def test_a_lost_loss_is_never_the_best():
    nan = float("nan")

    assert find_best(history(nan, 2.0, nan)) == Best(20, 2.0, 1)
    assert find_best(history(nan)) is None


def test_without_evaluations_there_is_no_best():
    assert find_best([]) is None
    assert find_best([{"step": 1, "loss": 1.0}]) is None


def test_training_goes_on_while_it_becomes_better(stops, said):
    assert not stops(3.0, 2.0, 1.0)
    assert not stops(3.0, 1.0, 2.0)
    assert not stops(3.0, 3.5, 2.9, 3.2)
    assert said == []


def test_training_stops_after_two_evaluations_without_a_better_loss(stops, said):
    assert stops(3.0, 1.0, 1.0, 1.2)
    assert said == [
        "stopping early: no better held-out loss in 2 evaluations than 1.000 at step 20"
    ]


def test_every_process_stops_but_only_the_main_one_says_so(stops, said):
    assert stops(1.0, 2.0, 3.0, main=False)
    assert said == []


def test_losses_that_were_never_numbers_are_left_to_others(stops):
    nan = float("nan")

    assert not stops(nan, nan, nan)


def test_waiting_for_evaluations_that_never_come_is_a_problem(config):
    def problems(**settings):
        changed = dataclasses.replace(config, evaluate_prompts=0, **settings)
        return [problem for problem in changed.problems() if "early_stopping" in problem]

    assert problems(early_stopping_evaluations=2) == [
        "early_stopping_evaluations needs evaluations before the end; set evaluate_steps"
    ]
    assert problems(early_stopping_evaluations=2, evaluate_steps=10) == []
    assert problems(evaluate_steps=0) == []
