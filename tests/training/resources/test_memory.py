"""The estimate against every peak that was measured, and against what autograd really keeps."""

import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BitsAndBytesConfig, MistralConfig, MistralForCausalLM

from tests.training.shapes import MISTRAL_7B, SMALL, settings
from training.lean.attention import BY_ROW
from training.lean.model import make_lean
from training.resources.memory import estimate, kept_by_layer, num_trained

PADDED = settings(padding_free=False)
DENSE = settings(padding_free=True)
DENSE_NO_DROPOUT = settings(padding_free=True, lora_dropout=0.0)
SMALL_STATE = settings(padding_free=True, optimizer="adamw_8bit")
PADDED_BATCH = 16 * 275
"""Tokens of 16 rows as long as the longest of the bundled ones."""
LARGEST_BATCH = 2900
"""Tokens of the largest of the 100 batches of 16 that the bundled rows make."""

# PyTorch's peaks in GB on one H200, Mistral-7B's shape, whole layers and feed-forward blocks
# checkpointed: bench/RESULTS.md.
MEASURED = [
    ("golden recipe", PADDED, PADDED_BATCH, (32, 0), 7.50),
    ("12 GB", DENSE, LARGEST_BATCH, (15, 17), 10.69),
    ("14 GB, 8-bit optimizer", SMALL_STATE, LARGEST_BATCH, (6, 26), 12.70),
    ("no dropout, 12 GB", DENSE_NO_DROPOUT, LARGEST_BATCH, (0, 31), 10.57),
    ("no dropout, 12 GB, whole layers", DENSE_NO_DROPOUT, LARGEST_BATCH, (20, 0), 10.67),
    ("no dropout, 24 GB", DENSE_NO_DROPOUT, LARGEST_BATCH, (0, 0), 18.35),
    ("1 row", DENSE, 275, (2, 0), 7.39),
]


def peak(config=DENSE, tokens=2000, layers=32, mlps=0, shape=MISTRAL_7B, **more):
    return estimate(
        shape,
        config,
        tokens=tokens,
        checkpointed_layers=layers,
        checkpointed_mlps=mlps,
        **more,
    )


@pytest.mark.parametrize(
    ("config", "tokens", "again", "measured"),
    [line[1:] for line in MEASURED],
    ids=[line[0] for line in MEASURED],
)
def test_the_estimate_is_within_5_percent_of_a_measured_peak(config, tokens, again, measured):
    estimated = peak(config, tokens, *again).allocated / 1e9

    assert estimated == pytest.approx(measured, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dropout", "padding_free"), [(0.0, True), (0.0, False), (0.05, True), (0.05, False)]
)
def test_layers_keep_what_autograd_keeps(dropout, padding_free, tmp_path, monkeypatch):
    config = settings(lora_dropout=dropout, padding_free=padding_free, lora_r=4, max_length=80)
    tokens = 320
    monkeypatch.setattr("training.lean.layers.rms_norm", Norm.apply)
    monkeypatch.setattr("training.lean.attention.varlen_attn", attend)
    kept = kept_by_autograd(tmp_path, config, tokens) / SMALL.num_layers
    estimated = kept_by_layer(SMALL, config, tokens=tokens)
    # B of each pair as it is computed with, which the estimate counts with the adapter
    estimated += sum(linear.out_features for linear in SMALL.linears) * config.lora_r * 2
    if dropout:
        # on the CPU dropout keeps two bytes for each number it looked at, on a GPU one
        inputs = sum(linear.in_features for linear in SMALL.linears)
        estimated += tokens * inputs

    assert estimated == pytest.approx(kept, rel=0.02)


class Norm(torch.autograd.Function):
    """Keeps what the kernel of a GPU keeps."""

    @staticmethod
    def forward(ctx, x, shape, weight, epsilon):
        factor = (x.float().square().mean(-1, keepdim=True) + epsilon).rsqrt()
        ctx.save_for_backward(x, factor)
        return (x * factor).to(x.dtype) * weight


class Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value):
        result = query.clone()
        ctx.save_for_backward(query, key, value, result, query.new_zeros(query.shape[:2]).float())
        return result


def attend(query, key, value, *_, **__):
    return Attention.apply(query, key, value)


def kept_by_autograd(folder, config, tokens):
    """Bytes that the layers of a small Mistral keep between forward and backward pass."""
    MistralForCausalLM(
        MistralConfig(
            vocab_size=SMALL.vocab_size,
            hidden_size=SMALL.hidden_size,
            intermediate_size=SMALL.intermediate_size,
            num_hidden_layers=SMALL.num_layers,
            num_attention_heads=SMALL.num_heads,
            num_key_value_heads=2,
            sliding_window=None,
        )
    ).save_pretrained(folder)
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = MistralForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, quantization_config=nf4
    )
    lora = LoraConfig(
        r=config.lora_r,
        lora_dropout=config.lora_dropout,
        target_modules=list(config.target_modules),
        task_type="CAUSAL_LM",
        trainable_token_indices={"embed_tokens": [3, 4]},
    )
    model = get_peft_model(model, lora, autocast_adapter_dtype=False).train()
    make_lean(model, rows_end_to_end=False)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in known:
            # held, so that no later tensor gets the same address
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    if config.padding_free:
        model.get_base_model().set_attn_implementation(BY_ROW)
        starts = torch.tensor([0, 100, tokens], dtype=torch.int32)
        positions = torch.cat([torch.arange(100), torch.arange(tokens - 100)])
        batch = {
            "input_ids": torch.ones(1, tokens, dtype=torch.long),
            "position_ids": positions[None],
            "cu_seq_lens_q": starts,
            "max_length_q": tokens - 100,
        }
    else:
        batch = {"input_ids": torch.ones(4, tokens // 4, dtype=torch.long)}
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        batch["attention_mask"][:, -3:] = 0
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        model.get_base_model().model(**batch, use_cache=False)
    whole = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    last_norm = tokens * (SMALL.hidden_size * 2 + 4)
    rotation = tokens * 2 * SMALL.head_size * 2 if config.padding_free else 0  # for all layers
    return whole - last_norm - rotation


def test_the_base_takes_half_a_byte_for_each_weight_of_a_matrix_and_its_scales():
    weights = peak().weights

    # 14.5 GB in bfloat16; 4.2 GB were measured after loading, whose scales are expanded then
    expanded = MISTRAL_7B.num_linear_weights / 64 * 3
    assert weights == pytest.approx(4.2e9 + expanded, rel=0.02)


def test_an_unquantized_base_takes_what_its_numbers_take():
    num_weights = MISTRAL_7B.num_linear_weights + MISTRAL_7B.num_other_weights

    assert peak(settings(quantization="none")).weights == 2 * num_weights
    assert peak(settings(quantization="none"), dtype_bytes=4).weights == 4 * num_weights


def test_the_golden_adapter_has_42_million_numbers():
    assert num_trained(MISTRAL_7B, settings()) == 41_943_040 + 2 * 4096


def test_what_is_trained_is_kept_in_float32_with_a_rounded_copy():
    memory = peak()
    trained = num_trained(MISTRAL_7B, DENSE)

    assert memory.adapter == 6 * trained
    assert memory.gradients == 4 * trained
    assert memory.optimizer == 8 * trained
    assert peak(dtype_bytes=4).adapter == 4 * trained


@pytest.mark.parametrize(
    ("optimizer", "size"), [("adamw_8bit", 2), ("paged_adamw_8bit", 2), ("sgd", 0)]
)
def test_the_optimizers_state_depends_on_the_optimizer(optimizer, size):
    assert peak(settings(optimizer=optimizer)).optimizer == size * num_trained(MISTRAL_7B, DENSE)


def test_preferences_need_a_reference_adapter_too():
    more = peak(settings(method="dpo")).adapter - peak().adapter

    assert more == 4 * num_trained(MISTRAL_7B, DENSE)


def test_only_the_chosen_matrices_are_trained():
    config = settings(target_modules=("q_proj", "v_proj"))

    assert num_trained(MISTRAL_7B, config) == 32 * 16 * (8192 + 5120) + 2 * 4096
    assert peak(config, layers=0).activations < peak(layers=0).activations


def test_an_unknown_matrix_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no c_attn, c_proj; it has q_proj, k_proj"):
        peak(settings(target_modules=("c_attn", "q_proj", "c_proj")))


def test_each_layer_that_keeps_its_activations_costs_memory():
    totals = [peak(layers=layers).total for layers in range(31, -1, -1)]

    assert totals == sorted(set(totals))


def test_a_checkpointed_feed_forward_block_keeps_its_input():
    whole, block = peak(DENSE_NO_DROPOUT, layers=0), peak(DENSE_NO_DROPOUT, layers=0, mlps=1)

    # gate, up, their product, and 16 numbers of each of three pairs
    assert whole.activations - block.activations == 2000 * 2 * (3 * 14336 + 3 * 16)


def test_with_dropout_its_input_is_kept_instead_of_dropped_copies():
    whole, block = peak(layers=0), peak(layers=0, mlps=1)

    copies = 3 * (2 * 4096 + 14336)
    freed = 2 * (2 * 14336 + 3 * 16) + copies - 2 * 4096
    assert whole.activations - block.activations == 2000 * freed


def test_a_checkpointed_layer_keeps_its_input():
    assert peak(tokens=1000, layers=32).activations == 32 * 1000 * 4096 * 2


def test_sparing_the_last_layer_the_second_computation_is_free():
    assert peak(layers=31).total <= peak(layers=32).total


def test_dropout_costs_a_copy_of_every_input():
    without = kept_by_layer(MISTRAL_7B, DENSE_NO_DROPOUT, tokens=1)
    inputs = 6 * 4096 + 14336

    assert kept_by_layer(MISTRAL_7B, DENSE, tokens=1) - without == 3 * inputs - 2 * (
        2 * 4096 + 14336
    )


def test_a_pair_that_reads_what_attention_wrote_keeps_nothing_of_its_own():
    kept = [
        kept_by_layer(MISTRAL_7B, settings(lora_dropout=0.0, target_modules=(name,)), tokens=1)
        for name in ("q_proj", "o_proj")
    ]

    assert kept[0] - kept[1] == 2 * 4096


def test_dora_keeps_more():
    assert peak(settings(dora=True), layers=0).activations > peak(layers=0).activations


def test_with_few_tokens_what_follows_the_backward_pass_is_the_peak():
    memory = peak(tokens=1)

    assert memory.activations + memory.workspace >= 2 * 32768 * 4096


def test_the_total_is_the_sum_of_the_parts():
    memory = peak()

    parts = (memory.weights, memory.adapter, memory.gradients, memory.optimizer)
    assert memory.total == sum(parts) + memory.activations + memory.workspace + memory.overhead
    assert memory.allocated == memory.total - memory.overhead
    assert memory.overhead == pytest.approx(0.5e9 + 0.05 * memory.allocated, rel=1e-6)
