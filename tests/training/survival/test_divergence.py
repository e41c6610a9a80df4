"""What counts as training that has gone wrong."""

import math

import pytest

from training.survival.divergence import EXPLOSION_STEPS, GradientWatch


def settled(**settings):
    """A watch that has seen forty steps with a gradient norm of about one."""
    watch = GradientWatch(**settings)
    for step in range(40):
        assert watch.problem(1.0 + 0.1 * (step % 3), loss_is_finite=True) is None
    return watch


def see(watch, *norms):
    return [watch.problem(norm, loss_is_finite=True) for norm in norms]


def test_a_loss_that_is_not_finite_is_a_problem_at_once():
    assert "loss" in GradientWatch().problem(1.0, loss_is_finite=False)


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_a_problem_at_once(norm):
    assert str(norm) in GradientWatch().problem(norm, loss_is_finite=True)


def test_a_norm_a_hundred_times_the_median_for_three_steps_is_a_problem():
    *before, last = see(settled(), *[111.0] * EXPLOSION_STEPS)

    assert before == [None, None]
    assert "111" in last
    assert "100 times its median 1.1" in last


def test_a_single_spike_is_no_problem_and_does_not_move_the_median():
    watch = settled()

    assert see(watch, *[500.0, 1.0] * 60) == [None] * 120
    assert see(watch, 500.0, 500.0, 500.0)[-1] is not None


def test_a_norm_that_grows_slowly_is_no_problem():
    assert see(settled(), *[1.05**step for step in range(200)]) == [None] * 200


def test_nothing_explodes_before_gradients_have_settled():
    watch = GradientWatch(settling_steps=50)

    assert see(watch, *[1.0] * 46, 900.0, 900.0, 900.0, 900.0) == [None] * 50
    assert see(watch, 900.0, 900.0, 900.0)[-1] is not None


def test_a_median_needs_some_steps_even_without_a_warm_up():
    assert see(GradientWatch(settling_steps=0), 1.0, *[900.0] * 5) == [None] * 6


def test_norms_of_zero_are_no_problem():
    assert see(GradientWatch(), *[0.0] * 60) == [None] * 60


def test_loss_scaling_may_skip_steps_until_its_scale_is_used_up():
    watch = GradientWatch(skips_overflow=True)

    assert see(watch, *[math.inf] * 20, 1.0, *[math.inf] * 20) == [None] * 41
    assert see(watch, math.inf) == ["the gradient norm is inf"]


def test_loss_scaling_is_no_excuse_for_a_loss_that_is_not_finite():
    watch = GradientWatch(skips_overflow=True)

    assert watch.problem(math.inf, loss_is_finite=False) is not None
