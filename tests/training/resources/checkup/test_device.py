import dataclasses

import pytest

from tests.training.shapes import settings
from training.resources.checkup.device import DeviceFacts, check_device, memory_of, read_device

CPU = DeviceFacts("cpu", "CPU", "", None, None, "float32")
CARD = DeviceFacts("cuda", "CUDA 13.0", "NVIDIA A10G", 24 * 10**9, 22 * 10**9, "bfloat16")
APPLE = DeviceFacts("mps", "MPS", "", 16 * 10**9, 12 * 10**9, "float16")


def check(facts, *, has_nvidia=False, **values):
    return check_device(facts, settings(**values), has_nvidia=has_nvidia)


def test_the_cpu_is_read_as_the_loader_uses_it():
    device = read_device(settings(device="cpu"))

    assert device == CPU
    assert device.dtype_bytes == 4


def test_the_cpus_memory_is_not_counted():
    import torch

    assert memory_of(torch.device("cpu")) == (None, None)


def test_a_card_is_told_with_its_memory():
    [finding] = check(CARD)

    assert finding.level == "ok"
    assert finding.text == "CUDA 13.0 NVIDIA A10G, computes in bfloat16, 22.0 GB of 24.0 GB free"
    assert CARD.dtype_bytes == 2


def test_a_cpu_alone_is_fine():
    assert [finding.level for finding in check(CPU)] == ["ok"]


def test_an_nvidia_card_that_torch_does_not_use_is_a_warning():
    findings = check(CPU, has_nvidia=True)

    assert [finding.level for finding in findings] == ["ok", "warning"]
    assert "CUDA build" in findings[1].fix


def test_a_cpu_that_was_asked_for_is_fine_beside_an_nvidia_card():
    assert len(check(CPU, has_nvidia=True, device="cpu")) == 1


def test_a_card_without_bfloat16_is_a_warning():
    findings = check(dataclasses.replace(CARD, dtype="float16"))

    assert [finding.level for finding in findings] == ["ok", "warning"]


@pytest.mark.parametrize(("quantization", "level"), [("nf4", "problem"), ("none", "ok")])
def test_apple_gpus_have_no_4_bit_weights(quantization, level):
    assert check(APPLE, quantization=quantization)[-1].level == level
