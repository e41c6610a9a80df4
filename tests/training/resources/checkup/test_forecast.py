import dataclasses

import pytest

from tests.training.resources.checkup.test_device import CARD, CPU
from tests.training.shapes import MISTRAL_7B, SMALL, settings
from training.resources.checkup.forecast import check_forecast

H200 = dataclasses.replace(CARD, name="NVIDIA H200", free_bytes=141 * 10**9)
LENGTHS = [50, 200] * 800


def forecast(device=CARD, shape=MISTRAL_7B, **values):
    return check_forecast(shape, settings(**values), LENGTHS, device)


def test_the_plan_is_told_with_memory_and_time():
    plan, findings = forecast(H200, memory_gb=12)

    told = {finding.subject: finding.text for finding in findings}
    assert plan is not None
    assert {finding.level for finding in findings} == {"ok"}
    assert "16 rows at once (at most 3200 tokens) x 1 per step" in told["plan"]
    assert f"{plan.checkpointed_layers} of 32 layers checkpointed" in told["plan"]
    assert f"{plan.estimate.total / 1e9:.1f} GB at the peak" in told["memory"]
    assert "141.0 GB are free" in told["memory"]
    assert "s for 100 steps" in told["time"]


def test_rows_in_several_goes_are_told():
    _, [plan, *_] = forecast(micro_batch_size=4)

    assert "4 rows at once (at most 800 tokens) x 4 per step, " in plan.text


def test_what_does_not_fit_is_a_problem_with_the_fix():
    plan, [finding] = forecast(memory_gb=4)

    assert plan is None
    assert finding.level == "problem"
    assert "4.0 GB may be used" in finding.text
    assert "memory_gb" in finding.fix


def test_time_on_hardware_that_was_not_measured_is_left_open():
    _, findings = forecast(CARD)

    [time] = [finding for finding in findings if finding.subject == "time"]
    assert time.text == "100 steps; nothing was measured on NVIDIA A10G; --trial measures a step"


def test_a_budget_of_time_is_told_as_it_is():
    _, findings = forecast(H200, hours=0.5)

    assert findings[-1].text == "0.5 hours, as the budget says"


@pytest.mark.parametrize(("shape", "level"), [(MISTRAL_7B, "warning"), (SMALL, "ok")])
def test_a_large_base_on_a_cpu_is_a_warning(shape, level):
    _, findings = forecast(CPU, shape)

    assert findings[-1].level == level


def test_memory_on_a_cpu_is_counted_in_float32():
    plan, _ = forecast(CPU, SMALL, quantization="none")

    assert plan is not None
    assert plan.estimate.weights == 4 * (SMALL.num_linear_weights + SMALL.num_other_weights)


def test_an_estimate_that_was_never_checked_says_so():
    _, findings = forecast(dora=True)

    assert findings[-1].level == "warning"
    assert "DoRA" in findings[-1].text
