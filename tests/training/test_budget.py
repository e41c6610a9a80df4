import pytest
import torch
from transformers import TrainerControl, TrainerState

from training.budget import BudgetCallback, TimeBudget, follow_time


class Clock:
    """Goes on when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def run_steps(budget, clock, durations, *, pause=0.0, closing_steps=0.0):
    """Steps of these seconds until the callback stops them; the plans, and the progress seen."""
    callback = BudgetCallback(budget, closing_steps=closing_steps)
    state, control, plans, shares = TrainerState(), TrainerControl(), [], []
    budget.begin_steps()
    for seconds in durations:
        callback.on_step_begin(None, state, control)
        clock.now += seconds
        state.global_step += 1
        callback.on_step_end(None, state, control)
        plans.append(state.max_steps)
        shares.append(callback.progress)
        if control.should_training_stop:
            break
        clock.now += pause
    return plans, shares


def test_steps_end_before_the_time_that_is_reserved(clock):
    budget = TimeBudget(100, clock=clock)
    budget.reserved_seconds = 20

    plans, _ = run_steps(budget, clock, [3.0] * 100)

    assert 70 <= budget.elapsed() <= 80
    assert len(plans) == plans[-1]


def test_a_step_that_may_not_fit_is_not_begun(clock):
    budget = TimeBudget(10, clock=clock)

    run_steps(budget, clock, [1.0, 4.0, 1.0, 1.0, 1.0, 1.0, 1.0])

    assert budget.elapsed() == 7.0  # another long one would end after 11 seconds


def test_the_plan_follows_the_measured_steps(clock):
    plans, _ = run_steps(TimeBudget(100, clock=clock), clock, [1.0] * 3 + [5.0] * 97)
    assert plans[0] == 100
    assert plans[-1] == len(plans) < 30


def test_pauses_between_steps_use_up_time_too(clock):
    budget = TimeBudget(100, clock=clock)

    plans, _ = run_steps(budget, clock, [1.0] * 200, pause=9.0)

    assert len(plans) == 10
    assert budget.elapsed() <= 100


def test_time_for_a_last_evaluation_is_kept_by_what_steps_take(clock):
    budget = TimeBudget(100, clock=clock)

    plans, _ = run_steps(budget, clock, [2.0] * 100, closing_steps=5)

    assert len(plans) == plans[-1] == 45


def test_progress_is_the_share_of_the_time_for_steps(clock):
    budget = TimeBudget(120, clock=clock)
    clock.now += 10  # loading
    budget.reserved_seconds = 10

    _, shares = run_steps(budget, clock, [10.0] * 20)

    assert shares == pytest.approx([step / 10 for step in range(1, 11)])


def test_time_that_an_interrupted_attempt_used_is_gone(clock):
    budget = TimeBudget(100, used_seconds=60, clock=clock)

    plans, _ = run_steps(budget, clock, [5.0] * 100)

    assert len(plans) == 8
    assert budget.elapsed() == 100


def test_steps_of_an_interrupted_attempt_count_for_the_progress(clock):
    budget = TimeBudget(100, clock=clock)
    budget.add_used(50)
    clock.now += 10  # loading
    budget.begin_steps()
    assert budget.progress() == pytest.approx(50 / 90)


def test_a_budget_that_is_used_up_before_the_first_step_leaves_one_step(clock):
    budget = TimeBudget(5, clock=clock)
    clock.now += 60

    plans, shares = run_steps(budget, clock, [1.0] * 10)

    assert plans == [1]
    assert shares == [1.0]


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_the_learning_rate_follows_the_progress(name):
    progress = [0.0]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    schedule = follow_time(name, optimizer, 0.1, lambda: progress[0])
    rates = []

    for progress[0] in (0.05, 0.1, 0.55, 1.0):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])

    assert rates == pytest.approx([1.0, 2.0, 1.0, 0.0], abs=1e-6)


def test_a_schedule_that_counts_otherwise_is_refused():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match="reduce_lr_on_plateau cannot follow a time budget"):
        follow_time("reduce_lr_on_plateau", optimizer, 0.0, lambda: 0.0)
