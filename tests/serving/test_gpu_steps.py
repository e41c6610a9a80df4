"""What runs on a CUDA device, against plain PyTorch, transformers and float32."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.manifest import AdapterManifest
from bench.random_model import make_random_adapter, make_random_base
from serving import ops
from serving.attention import StepInput, attend_by_row, attend_flash, choose_attention
from serving.base_model import load_base
from serving.config import EngineConfig
from serving.core import EngineCore
from serving.loader import attach_adapter, load
from serving.sampler import Rows
from serving.sampling import SamplingParams
from serving.scheduler import Job

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
NEW_TOKENS = 6


def error(found, wanted):
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


@pytest.fixture
def random():
    generator = torch.Generator("cuda").manual_seed(1)

    def draw(*shape, dtype=torch.bfloat16):
        return torch.randn(*shape, generator=generator, device="cuda").to(dtype)

    return draw


@pytest.mark.parametrize("tokens", [1, 3, 65])
@pytest.mark.parametrize("hidden", [96, 4096])
@pytest.mark.parametrize("with_update", [True, False])
def test_the_norm_kernel_agrees_with_pytorch(random, tokens, hidden, with_update):
    from serving import kernels

    residual, weight = random(tokens, hidden, dtype=torch.float32), random(hidden)
    update = random(tokens, hidden) if with_update else None
    wanted_residual = residual.clone()
    wanted = ops.add_rms_norm(wanted_residual, update, weight, 1e-5)

    found = kernels.add_rms_norm(residual, update, weight, 1e-5)

    assert error(found, wanted) < 5e-3
    assert torch.equal(residual, wanted_residual)


@pytest.mark.parametrize("heads", [(32, 8, 128), (6, 2, 64), (4, 4, 96)])
def test_the_rotation_kernel_agrees_with_pytorch(random, heads):
    from serving import kernels

    num_heads, num_kv_heads, head_dim = heads
    qkv = random(5, (num_heads + 2 * num_kv_heads) * head_dim)
    angles = random(5, head_dim // 2, dtype=torch.float32)
    slots = torch.tensor([3, 11, 7, 0, 19], device="cuda")
    caches = [torch.zeros(20, num_kv_heads, head_dim, device="cuda").bfloat16() for _ in range(4)]
    rotation = (angles.cos(), angles.sin())
    wanted = ops.rotate_and_store(qkv, rotation, slots, caches[0], caches[1], num_heads)

    found = kernels.rotate_and_store(qkv, rotation, slots, caches[2], caches[3], num_heads)

    assert error(found, wanted) < 5e-3
    assert error(caches[2], caches[0]) < 5e-3
    assert torch.equal(caches[3], caches[1])


@pytest.mark.parametrize("half", [100, 14336])
def test_the_activation_kernel_agrees_with_pytorch(random, half):
    from serving import kernels

    both = random(3, 2 * half)

    assert error(kernels.silu_mul(both), ops.silu_mul(both)) < 5e-3


@pytest.mark.parametrize("shape", [(3, 64), (1024, 4096)])
def test_expanded_weights_are_those_of_bitsandbytes(random, shape):
    from serving import kernels

    codes = torch.randint(0, 256, (shape[0] * shape[1] // 2, 1), device="cuda").to(torch.uint8)
    absmax = random(shape[0] * shape[1] // 64, dtype=torch.float32).abs()

    found = kernels.expand_nf4(codes, absmax, shape, torch.bfloat16)

    assert torch.equal(found, ops.expand_nf4(codes, absmax, shape, torch.bfloat16))


@pytest.mark.parametrize("heads", [(8, 2, 64), (32, 8, 128), (4, 4, 96), (6, 1, 40)])
@pytest.mark.parametrize("counts", [[1, 1, 1], [1] * 40, [7, 30, 1], [33]])
def test_attention_reads_the_runs_of_its_rows_only(random, counts, heads):
    num_heads, num_kv_heads, head_dim = heads
    lengths = [count + 40 * index for index, count in enumerate(counts)]
    starts = [sum(lengths[index + 1 :]) + 8 * index for index in range(len(counts))]
    keys, values = random(2, sum(lengths) + 400, num_kv_heads, head_dim)
    owned = torch.zeros(len(keys), dtype=torch.bool, device="cuda")
    for start, length in zip(starts, lengths, strict=True):
        owned[start : start + length] = True
    keys[~owned] = values[~owned] = torch.nan
    queries = random(sum(counts), num_heads, head_dim)
    ends = [sum(counts[:n]) for n in range(len(counts) + 1)]
    unused = torch.empty(0, device="cuda")
    step = StepInput(
        ids=unused,
        positions=unused,
        slots=unused,
        ends=torch.tensor(ends, dtype=torch.int32, device="cuda"),
        starts=torch.tensor([*starts, 0], dtype=torch.int32, device="cuda"),
        lengths=torch.tensor(lengths, dtype=torch.int32, device="cuda"),
        most_tokens=max(counts),
    )

    wanted = attend_by_row(queries.float(), keys.float(), values.float(), step)
    attend = choose_attention(queries.device, queries.dtype, head_dim, most_keys=4096)

    chosen = attend(queries, keys, values, step)
    flash = attend_flash(queries, keys, values, step, most_keys=4096)

    assert error(chosen, wanted) < 5e-3
    assert error(flash, wanted) < 5e-3


def test_the_kernel_that_chooses_is_compiled_once_wherever_rows_begin(random):
    from serving import kernels

    vocab_size, device = 50, torch.device("cuda")
    rows = Rows(8, vocab_size, 0, device)
    nothing = torch.zeros(vocab_size, dtype=torch.bool, device=device)
    rows.fill(0, [(SamplingParams(temperature=1.0), 0, 1)] * 8, nothing)
    eos_ids = torch.tensor([3], device=device)
    variants, *_ = kernels._sample.device_caches[torch.cuda.current_device()]

    counts = set()
    for first in range(5):
        kernels.sample(random(2, vocab_size), rows.settings(slice(first, first + 2)), eos_ids)
        counts.add(len(variants))

    assert len(counts) == 1


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """A base of Mistral-7B's shape and an adapter whose LoRA changes every product.

    RANDOM_MODEL names a folder of `bench.serving --work`, which saves making them.
    """
    work = tmp_path_factory.mktemp("golden")
    made = Path(os.environ.get("RANDOM_MODEL", work))
    base = make_random_base(made / "base")
    adapter = work / "changed"
    shutil.copytree(make_random_adapter(made / "adapter", base), adapter)
    tensors = load_file(adapter / "adapter_model.safetensors")
    generator = torch.Generator().manual_seed(2)
    for name, tensor in tensors.items():
        if "lora_B" in name:
            noise = torch.randn(tensor.shape, generator=generator) * 0.02
            tensors[name] = noise.to(tensor.dtype)
    save_file(tensors, adapter / "adapter_model.safetensors")
    return base, adapter


@pytest.fixture(scope="module")
def reference(golden):
    """Transformers and PEFT in float32, on the same 4-bit weights."""
    base, adapter = golden
    return attach_adapter(load_base(base, "cuda", "nf4", torch.float32), adapter).eval()


@pytest.mark.parametrize(("weights", "rows"), [("nf4", 1), ("nf4", 64), ("bf16", 64)])
def test_logits_of_graphs_are_those_of_float32(
    golden, reference, monkeypatch, record_property, weights, rows
):
    base, adapter = golden
    monkeypatch.setattr("serving.loader.check_start", unchecked)
    texts, found = last_logits(
        EngineConfig(
            adapter=adapter,
            base_model=str(base),
            device="cuda",
            weights=weights,
            max_batch_size=rows,
            prompt_tokens_per_step=100_000,  # all rows begin with the same step
        )
    )
    errors = []
    for row in range(0, rows, max(1, rows // 8)):
        with torch.inference_mode():
            wanted = reference(torch.tensor([texts[row]], device="cuda")).logits[0, -1]
        errors.append(error(found[row], wanted.cpu()))

    record_property(f"{weights}_{rows}", max(errors))
    assert max(errors) < 1e-2


@pytest.mark.parametrize("rows", [1, 5])
def test_scores_of_graphs_are_those_of_a_prompt_that_holds_the_answer(golden, monkeypatch, rows):
    base, adapter = golden
    monkeypatch.setattr("serving.loader.check_start", unchecked)
    config = EngineConfig(
        adapter=adapter, base_model=str(base), device="cuda", max_batch_size=8, kv_cache_gb=1.0
    )
    core = EngineCore(load(config), config)
    core.warm_up(lambda line: None)
    asking = SamplingParams(min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS, logprobs=2)
    jobs = [Job(list(range(100 + row, 140 + 3 * row)), asking) for row in range(rows)]
    answers = core.run(jobs)
    whole = [[*job.prompt_ids, *each.ids] for job, each in zip(jobs, answers, strict=True)]

    echoes = core.run(
        [
            Job(
                ids, SamplingParams(max_new_tokens=0), scored=range(len(ids) - NEW_TOKENS, len(ids))
            )
            for ids in whole
        ]
    )

    for answer, echo in zip(answers, echoes, strict=True):
        found = [token.logprob for token in answer.logprobs]
        # bfloat16, and other products for one token than for many
        assert found == pytest.approx([token.logprob for token in echo.prompt_logprobs], abs=0.1)


def last_logits(config):
    """Ids that full batches of rows have read, and the logits [rows, vocabulary] that follow."""
    loaded = load(config)
    forward = loaded.model.forward
    recorded = {}

    def record(step):
        logits = forward(step)
        if torch.cuda.is_current_stream_capturing():
            recorded[len(step.lengths)] = logits  # where the graph will write them
        return logits

    loaded.model.forward = record
    core = EngineCore(loaded, config)
    core.warm_up(lambda line: None)
    rows = config.max_batch_size
    generator = torch.Generator().manual_seed(rows)
    jobs = [
        Job(
            torch.randint(1000, (40 + 3 * row,), generator=generator).tolist(),
            SamplingParams(min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS),
        )
        for row in range(rows)
    ]
    outputs = core.run(jobs)
    texts = [[*job.prompt_ids, *output.ids[:-1]] for job, output in zip(jobs, outputs, strict=True)]
    return texts, recorded[rows].float().cpu()


def unchecked(config):
    """The adapter's weights were replaced, so that its checksums cannot hold."""
    return AdapterManifest.from_json((config.adapter / "manifest.json").read_text())
