from functools import partial

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, Trainer, TrainingArguments

from training.activations import CheckpointFirstLayers
from training.arguments import CHECKPOINTING

pytestmark = pytest.mark.slow


def run(tmp_path, count, mlps=0, *, checkpointing=True):
    """How often the halves of four layers computed in a step, and the weights after it."""
    torch.manual_seed(0)
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )
    calls = {"self_attn": [0] * 4, "mlp": [0] * 4}

    def note(*_, half, number):
        calls[half][number] += 1

    for number, layer in enumerate(model.model.layers):
        noting = partial(note, half="self_attn", number=number)
        layer.self_attn.q_proj.register_forward_pre_hook(noting)
        layer.mlp.gate_proj.register_forward_pre_hook(partial(note, half="mlp", number=number))
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=1,
        report_to="none",
        use_cpu=True,
        activation_checkpointing=checkpointing,
        activation_checkpointing_kwargs=CHECKPOINTING,
    )
    rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 8
    callbacks = [CheckpointFirstLayers(count, mlps)]
    Trainer(model, arguments, train_dataset=rows, callbacks=callbacks).train()
    return calls, torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_the_first_layers_compute_twice_and_the_others_once(tmp_path, count):
    calls, _ = run(tmp_path, count)
    twice = [2] * count + [1] * (4 - count)
    assert calls == {"self_attn": twice, "mlp": twice}


@pytest.mark.parametrize(("count", "mlps"), [(0, 4), (1, 2), (2, 2)])
def test_of_the_next_ones_only_the_feed_forward_block_computes_twice(tmp_path, count, mlps):
    calls, _ = run(tmp_path, count, mlps)
    assert calls["self_attn"] == [2] * count + [1] * (4 - count)
    assert calls["mlp"] == [2] * (count + mlps) + [1] * (4 - count - mlps)


def test_what_is_learned_does_not_depend_on_it(tmp_path):
    _, wanted = run(tmp_path, 0)
    for count, mlps in ((2, 0), (4, 0), (0, 3), (1, 3)):
        assert torch.equal(run(tmp_path, count, mlps)[1], wanted)


def test_nothing_computes_twice_where_checkpointing_is_off(tmp_path):
    calls, _ = run(tmp_path, 2, 2, checkpointing=False)
    assert calls == {"self_attn": [1] * 4, "mlp": [1] * 4}
