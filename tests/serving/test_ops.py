import shutil

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from serving import ops, sampler

EPS = 1e-5
CPU = torch.device("cpu")


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator)


# The norm


def norm_of_transformers(x, weight):
    norm = LlamaRMSNorm(len(weight), eps=EPS)
    norm.weight = nn.Parameter(weight)
    return norm(x).detach()


@pytest.mark.parametrize("scale", [1.0, 1e-3])  # so small that eps matters
def test_the_norm_is_that_of_transformers(draw, scale):
    residual, weight = scale * draw(3, 64), draw(64)

    found = ops.add_rms_norm(residual, None, weight, EPS)

    torch.testing.assert_close(found, norm_of_transformers(residual, weight))


def test_what_is_added_comes_in_before_the_norm_and_stays_in_the_residual(draw):
    residual, x, weight = draw(3, 64), draw(3, 64), draw(64)
    both = residual + x

    found = ops.add_rms_norm(residual, x, weight, EPS)

    assert torch.equal(residual, both)
    torch.testing.assert_close(found, norm_of_transformers(both, weight))


def test_with_nothing_to_add_the_residual_stays_as_it_is(draw):
    residual = draw(3, 64)
    before = residual.clone()

    ops.add_rms_norm(residual, None, draw(64), EPS)

    assert torch.equal(residual, before)


def test_in_half_precision_the_residual_keeps_what_half_precision_would_lose(draw):
    residual, x = torch.full((1, 64), 256.0), torch.full((1, 64), 0.25).bfloat16()

    found = ops.add_rms_norm(residual, x, draw(64).bfloat16(), EPS)

    assert torch.equal(residual, torch.full((1, 64), 256.25))  # 256 in bfloat16
    assert found.dtype == torch.bfloat16


# Rotation and cache

NUM_HEADS, NUM_KV_HEADS, HEAD_DIM = 4, 2, 16
SLOTS = [3, 11, 7, 0, 19]


def rotate(draw, dtype=torch.float32):
    """What went in, the rotated queries, and the caches [20 places, heads, head size] of ones."""
    qkv = draw(len(SLOTS), (NUM_HEADS + 2 * NUM_KV_HEADS) * HEAD_DIM).to(dtype)
    angles = 6 * draw(len(SLOTS), HEAD_DIM // 2)
    keys, values = torch.ones(2, 20, NUM_KV_HEADS, HEAD_DIM, dtype=dtype)
    queries = ops.rotate_and_store(
        qkv.clone(), (angles.cos(), angles.sin()), torch.tensor(SLOTS), keys, values, NUM_HEADS
    )
    parts = [NUM_HEADS, NUM_KV_HEADS, NUM_KV_HEADS]
    return qkv.view(len(SLOTS), -1, HEAD_DIM).split(parts, dim=1), angles, queries, keys, values


def test_queries_and_keys_are_rotated_as_in_transformers(draw):
    (q, k, _), angles, queries, keys, _ = rotate(draw)

    both = torch.cat([angles, angles], dim=-1)
    wanted_q, wanted_k = apply_rotary_pos_emb(q, k, both.cos(), both.sin(), unsqueeze_dim=1)
    torch.testing.assert_close(queries, wanted_q)
    torch.testing.assert_close(keys[SLOTS], wanted_k)


def test_values_are_stored_as_they_are(draw):
    (_, _, v), _, _, _, values = rotate(draw)
    assert torch.equal(values[SLOTS], v)


def test_only_the_places_of_the_tokens_are_written(draw):
    *_, keys, values = rotate(draw)
    others = [place for place in range(20) if place not in SLOTS]
    assert torch.equal(keys[others], torch.ones_like(keys[others]))
    assert torch.equal(values[others], torch.ones_like(values[others]))


def test_in_half_precision_the_angles_stay_exact(draw):
    (q, _, _), angles, queries, _, _ = rotate(draw, torch.bfloat16)

    both = torch.cat([angles, angles], dim=-1)
    wanted, _ = apply_rotary_pos_emb(q.float(), q.float(), both.cos(), both.sin(), unsqueeze_dim=1)
    assert torch.equal(queries, wanted.bfloat16())


# Activation and weights


def test_the_first_half_is_the_gate_of_the_second(draw):
    both = draw(3, 20)
    gate, up = both[:, :10], both[:, 10:]
    torch.testing.assert_close(ops.silu_mul(both), gate * torch.sigmoid(gate) * up)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_expanded_weights_are_those_of_bitsandbytes(draw, dtype):
    codes, state = quantize_4bit(draw(6, 128), blocksize=64, quant_type="nf4")

    found = ops.expand_nf4(codes, state.absmax, (6, 128), dtype)

    assert found.dtype == dtype
    assert torch.equal(found, dequantize_4bit(codes, state).to(dtype))


# Which operations a device gets


def test_the_processor_gets_the_plain_operations():
    assert ops.device_ops(CPU) is ops
    assert ops.device_ops(CPU).sample is sampler.sample


@pytest.fixture
def _looked_up_anew():
    """What is found out about Triton is remembered."""
    ops.triton_can_build.cache_clear()
    yield
    ops.triton_can_build.cache_clear()


@pytest.mark.usefixtures("_looked_up_anew")
def test_a_gpu_without_a_compiler_gets_the_plain_operations_and_a_word_about_it(
    monkeypatch, caplog
):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())

    found = ops.device_ops.__wrapped__(torch.device("cuda"))

    assert found is ops
    assert "install gcc" in caplog.text


@pytest.mark.usefixtures("_looked_up_anew")
def test_a_gpu_without_triton_gets_the_plain_operations(monkeypatch, caplog):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    found = ops.device_ops.__wrapped__(torch.device("cuda"))

    assert found is ops
    assert "Triton" in caplog.text
