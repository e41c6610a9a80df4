import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

from training.pocket.nf4 import round_to_nf4


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def bitsandbytes_round_trip(weight):
    data, state = quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=False)
    return dequantize_4bit(data, state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 0.02, 30.0])
def test_rounding_is_what_bitsandbytes_gives_back(dtype, scale):
    weight = (torch.randn(96, 384) * scale).to(dtype)
    rounded = round_to_nf4(weight)
    assert rounded.dtype == dtype
    assert torch.equal(rounded, bitsandbytes_round_trip(weight))


def test_rounding_agrees_where_each_block_has_a_size_of_its_own():
    weight = torch.randn(64, 64) * torch.logspace(-6, 3, 64)[:, None]
    torch.testing.assert_close(round_to_nf4(weight), bitsandbytes_round_trip(weight))


def test_a_block_has_at_most_sixteen_values():
    blocks = round_to_nf4(torch.randn(10, 64))
    assert max(len(block.unique()) for block in blocks) <= 16


def test_the_largest_value_of_a_block_stays_as_it_is():
    weight = torch.randn(10, 64)
    place = weight.abs().argmax(dim=1, keepdim=True)
    assert torch.equal(round_to_nf4(weight).gather(1, place), weight.gather(1, place))


def test_rounding_twice_changes_nothing_more():
    once = round_to_nf4(torch.randn(32, 128))
    torch.testing.assert_close(round_to_nf4(once), once)


def test_zeros_stay_zeros():
    assert torch.equal(round_to_nf4(torch.zeros(2, 64)), torch.zeros(2, 64))


def test_the_weight_itself_is_not_touched():
    weight = torch.randn(4, 64)
    copy = weight.clone()
    assert round_to_nf4(weight).shape == weight.shape
    assert torch.equal(weight, copy)
