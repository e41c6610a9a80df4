"""Which process this is, and what it refuses to start with."""

import pytest
import torch

from training.parallel.processes import Process


def test_without_torchrun_there_is_one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)

    process = Process.current()

    assert process == Process(rank=0, count=1)
    assert process.is_first


def test_alone_a_problem_is_raised_as_it_is():
    with pytest.raises(FileNotFoundError, match="gone"), Process().agreeing():
        raise FileNotFoundError("gone")


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharding_is_refused_with_what_to_use_instead(monkeypatch, name):
    monkeypatch.setenv(name, "true")

    with pytest.raises(ValueError, match=f"{name}.*4-bit.*torchrun"):
        Process(count=2).check_start(torch.device("cpu"))


def test_each_process_needs_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    with pytest.raises(ValueError, match=r"4 processes for 2 cuda devices.*--nproc_per_node=2"):
        Process(count=8).check_start(torch.device("cuda", 0))


@pytest.mark.parametrize(("here", "device"), [("2", "cuda"), ("4", "cpu")])
def test_processes_that_have_what_they_need_may_start(monkeypatch, here, device):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    Process(count=8).check_start(torch.device(device))
