from types import SimpleNamespace

import psutil
import pytest
import torch

from training.watch.device_memory import measure_memory

CUDA, MPS, CPU = torch.device("cuda", 0), torch.device("mps"), torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of 24 GB, of which 11.2 were in use at the most."""
    facts = SimpleNamespace(total_memory=24 * 10**9)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 11_200_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)


@pytest.mark.usefixtures("gpu")
def test_the_peak_of_a_gpu_is_told_as_a_share_of_it():
    use = measure_memory(CUDA)

    assert use.gb == 11.2
    assert use.share == pytest.approx(11.2 / 24)


@pytest.mark.usefixtures("gpu")
def test_with_a_budget_the_share_is_one_of_the_budget():
    assert measure_memory(CUDA, budget_gb=12).share == pytest.approx(11.2 / 12)


def test_apple_silicon_tells_what_its_driver_holds(monkeypatch):
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 4_000_000_000)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 16_000_000_000)

    use = measure_memory(MPS, budget_gb=8)

    assert (use.gb, use.share) == (4.0, 0.5)


def test_on_a_cpu_it_is_the_memory_of_the_process_and_gpu_budgets_do_not_count():
    use = measure_memory(CPU, budget_gb=0.001)

    assert 0.05 < use.gb < psutil.virtual_memory().total / 1e9
    assert 0 < use.share < 1
